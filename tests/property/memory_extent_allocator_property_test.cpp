// Random programs against a map of granules.
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "memory/extent_allocator.hpp"
#include "support/seed.hpp"

namespace strata::memory {
namespace {

using strata::testing::pick;

constexpr std::uint64_t kGranule = 64;

/// Which granule is taken; all questions are answered by looking at every one of them.
class NaiveSpace {
 public:
  explicit NaiveSpace(std::uint64_t granules) : taken_(granules, 0) {}

  [[nodiscard]] std::uint64_t largest_free() const {
    std::uint64_t best = 0;
    std::uint64_t run = 0;
    for (const std::uint8_t taken : taken_) {
      run = taken != 0 ? 0 : run + 1;
      best = std::max(best, run);
    }
    return best;
  }
  [[nodiscard]] std::uint64_t used() const {
    std::uint64_t count = 0;
    for (const std::uint8_t taken : taken_) count += taken;
    return count;
  }
  [[nodiscard]] bool is_free(std::uint64_t from, std::uint64_t count) const {
    if (from + count > taken_.size()) return false;
    for (std::uint64_t i = from; i < from + count; ++i) {
      if (taken_[i] != 0) return false;
    }
    return true;
  }
  void set(std::uint64_t from, std::uint64_t count, std::uint8_t taken) {
    for (std::uint64_t i = from; i < from + count; ++i) taken_[i] = taken;
  }
  /// The largest run that any placement of `count` granules can leave.
  [[nodiscard]] std::uint64_t best_rest(std::uint64_t count) {
    std::uint64_t best = 0;
    for (std::uint64_t at = 0; at + count <= taken_.size(); ++at) {
      if (!is_free(at, count)) continue;
      set(at, count, 1);
      best = std::max(best, largest_free());
      set(at, count, 0);
    }
    return best;
  }

 private:
  std::vector<std::uint8_t> taken_;
};

TEST(ExtentAllocatorPropertyTest, BehavesAsTheNaiveModel) {
  std::mt19937_64 random(strata::testing::test_seed());
  for (int program = 0; program < 60; ++program) {
    const std::uint64_t granules = pick(random, 1, 40);
    NaiveSpace naive(granules);
    ExtentAllocator space(Bytes(granules * kGranule + pick(random, 0, kGranule - 1)), Bytes(kGranule));
    ExtentAllocator twin(space.size(), Bytes(kGranule));
    std::vector<Extent> live;
    for (int step = 0; step < 200; ++step) {
      if (live.empty() || pick(random, 0, 99) < 55) {
        const Bytes size(pick(random, 0, granules * kGranule / 3));
        const std::uint64_t count = std::max<std::uint64_t>(1, round_up(size.value, kGranule) / kGranule);
        const auto extent = space.try_allocate(size);
        ASSERT_EQ(extent, twin.try_allocate(size)) << "not deterministic";
        ASSERT_EQ(extent.has_value(), naive.largest_free() >= count);
        if (!extent) continue;
        ASSERT_EQ(extent->size.value, count * kGranule);
        ASSERT_EQ(extent->offset.value % kGranule, 0u);
        ASSERT_TRUE(naive.is_free(extent->offset.value / kGranule, count)) << "overlaps or lies outside";
        const std::uint64_t best = naive.best_rest(count);
        naive.set(extent->offset.value / kGranule, count, 1);
        ASSERT_EQ(naive.largest_free(), best) << "another place leaves a larger run";
        live.push_back(*extent);
      } else {
        const std::uint64_t chosen = pick(random, 0, live.size() - 1);
        const Extent extent = live[chosen];
        live.erase(live.begin() + static_cast<std::ptrdiff_t>(chosen));
        space.free(extent);
        twin.free(extent);
        naive.set(extent.offset.value / kGranule, extent.size.value / kGranule, 0);
      }
      ASSERT_EQ(space.used().value, naive.used() * kGranule);
      ASSERT_EQ(space.largest_free().value, naive.largest_free() * kGranule);
    }
  }
}

TEST(ExtentAllocatorPropertyTest, WithAtMostTwoAliveWhateverFitsBySizeFits) {
  std::mt19937_64 random(strata::testing::test_seed());
  for (int program = 0; program < 50; ++program) {
    const std::uint64_t granules = pick(random, 2, 1000);
    ExtentAllocator space(Bytes(granules * kGranule), Bytes(kGranule));
    std::vector<Extent> live;
    for (int step = 0; step < 200; ++step) {
      const std::uint64_t left = granules - space.used().value / kGranule;
      if (live.size() < 2 && left > 0 && pick(random, 0, 2) > 0) {
        const auto extent = space.try_allocate(Bytes(pick(random, 1, left) * kGranule));
        ASSERT_TRUE(extent);
        live.push_back(*extent);
      } else if (!live.empty()) {
        const std::uint64_t chosen = pick(random, 0, live.size() - 1);
        space.free(live[chosen]);
        live.erase(live.begin() + static_cast<std::ptrdiff_t>(chosen));
      }
    }
  }
}

}  // namespace
}  // namespace strata::memory
