#include "memory/extent_allocator.hpp"

#include <limits>

#include <gtest/gtest.h>

namespace strata::memory {
namespace {

using namespace literals;

TEST(ExtentAllocatorTest, NothingFitsIntoNothing) {
  ExtentAllocator empty(0_B, 4_KiB);
  EXPECT_FALSE(empty.try_allocate(1_B));
  ExtentAllocator small(4095_B, 4_KiB);  // less than a granule
  EXPECT_FALSE(small.try_allocate(1_B));
  EXPECT_EQ(small.largest_free(), 0_B);
}

TEST(ExtentAllocatorTest, AbsurdSizesAreRefused) {
  ExtentAllocator space(1_MiB, 4_KiB);
  EXPECT_FALSE(space.try_allocate(1_MiB + 1_B));
  EXPECT_FALSE(space.try_allocate(Bytes(std::numeric_limits<std::uint64_t>::max())));
  EXPECT_EQ(space.used(), 0_B);
}

TEST(ExtentAllocatorTest, SizesAreRoundedUpToTheGranule) {
  ExtentAllocator space(1_MiB, 4_KiB);
  const auto extent = space.try_allocate(1_B);
  ASSERT_TRUE(extent);
  EXPECT_EQ(extent->size, 4_KiB);
  EXPECT_EQ(space.used(), 4_KiB);
  const auto nothing = space.try_allocate(0_B);
  ASSERT_TRUE(nothing);
  EXPECT_EQ(nothing->size, 4_KiB);
}

TEST(ExtentAllocatorTest, OffsetsAreMultiplesOfTheGranuleInASpaceThatIsNot) {
  ExtentAllocator space(Bytes(10 * 4096 + 100), 4_KiB);
  const auto first = space.try_allocate(4_KiB);
  const auto second = space.try_allocate(4_KiB);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->offset.value, 0u);
  EXPECT_EQ(second->offset.value, 9 * 4096u);
}

TEST(ExtentAllocatorTest, TwoExtentsGrowFromTheTwoEnds) {
  ExtentAllocator space(100_KiB, 4_KiB);
  const auto a = space.try_allocate(40_KiB);
  const auto b = space.try_allocate(20_KiB);
  ASSERT_TRUE(a && b);
  EXPECT_EQ(a->offset.value, 0u);
  EXPECT_EQ(b->offset.value, 80u << 10);
}

TEST(ExtentAllocatorTest, ExtentsThatAlternateNeverBlockTheMiddle) {
  // Units of unequal size through two slots, pair by pair; the two of a pair always fill the space.
  constexpr std::uint64_t kSizes[] = {40, 60, 36, 64, 12, 88, 100, 0, 48, 52, 4, 96};
  ExtentAllocator space(100_KiB, 4_KiB);
  std::optional<Extent> older;
  std::optional<Extent> newer;
  for (int round = 0; round < 5; ++round) {
    for (std::size_t i = 0; i + 1 < std::size(kSizes); i += 2) {
      if (older) space.free(*older);
      older.reset();
      if (newer) space.free(*newer);
      newer.reset();
      older = space.try_allocate(Bytes(kSizes[i] << 10));
      ASSERT_TRUE(older) << kSizes[i];
      if (kSizes[i + 1] == 0) continue;
      newer = space.try_allocate(Bytes(kSizes[i + 1] << 10));
      ASSERT_TRUE(newer) << kSizes[i + 1];
    }
  }
}

TEST(ExtentAllocatorTest, RotationThroughTwoSlotsAlwaysFits) {
  ExtentAllocator space(100_KiB, 4_KiB);
  auto older = space.try_allocate(48_KiB);
  ASSERT_TRUE(older);
  for (std::uint64_t i = 0; i < 200; ++i) {
    const auto newer = space.try_allocate(Bytes(100 * 1024 - older->size.value));  // all that is left
    ASSERT_TRUE(newer) << "round " << i;
    EXPECT_EQ(space.largest_free(), 0_B);
    space.free(*older);
    older = newer;
    // The next one has another size.
    space.free(*older);
    older = space.try_allocate(Bytes((i * 7 % 24 + 1) << 12));
    ASSERT_TRUE(older);
  }
}

TEST(ExtentAllocatorTest, FreedNeighboursJoin) {
  ExtentAllocator space(16_KiB, 4_KiB);
  std::optional<Extent> parts[4];
  for (auto& part : parts) ASSERT_TRUE(part = space.try_allocate(4_KiB));
  space.free(*parts[0]);
  space.free(*parts[2]);
  space.free(*parts[1]);
  space.free(*parts[3]);
  EXPECT_EQ(space.largest_free(), 16_KiB);
  EXPECT_TRUE(space.try_allocate(16_KiB));
}

TEST(ExtentAllocatorDeathTest, FreeingTwiceOrInPartIsAProgrammerError) {
  ExtentAllocator space(16_KiB, 4_KiB);
  const auto extent = space.try_allocate(8_KiB);
  ASSERT_TRUE(extent);
  EXPECT_DEATH(space.free({extent->offset, 4_KiB}), "freed whole");
  space.free(*extent);
  EXPECT_DEATH(space.free(*extent), "freed once");
}

}  // namespace
}  // namespace strata::memory
