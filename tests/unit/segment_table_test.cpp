#include "zero/segment_table.hpp"

#include <gtest/gtest.h>

namespace strata::zero {
namespace {

UnitInfo unit(std::vector<ParameterInfo> parameters) { return {"u", std::move(parameters)}; }

TEST(SegmentTableTest, ParametersStartAtMultiplesOf256InOneSectionPerType) {
  const UnitInfo info = unit({{"a", {3, 5}},
                              {"b", {257}},
                              {"half", {4}, DType::kBFloat16},
                              {"frozen", {2}, DType::kFloat32, Trainable::kNo},
                              {"c", {}}});
  const auto layouts = lay_out({&info, 1}, {});
  ASSERT_TRUE(layouts);
  const UnitLayout& layout = layouts->front();
  ASSERT_EQ(layout.sections.size(), 3u);
  const Section& first = layout.sections[0];
  EXPECT_EQ(first.segments[0].offset, 0u);
  EXPECT_EQ(first.segments[1].offset, 256u);
  EXPECT_EQ(first.segments[2].offset, 256u + 512u);
  EXPECT_EQ(first.segments[2].numel, 1u);
  EXPECT_EQ(first.elements, 1024u);
  EXPECT_EQ(layout.sections[1].dtype, DType::kBFloat16);
  EXPECT_EQ(layout.sections[2].trainable, Trainable::kNo);
  EXPECT_TRUE(layout.sections[2].sub_groups.empty());
  EXPECT_EQ(layout.places[4].section, 0u);
  EXPECT_EQ(layout.places[4].segment, 2u);
}

TEST(SegmentTableTest, ShardsAreEqualMultiplesOf256AndCoverEverything) {
  const UnitInfo info = unit({{"a", {1000}}, {"b", {77}}});
  for (const std::uint32_t world : {1u, 2u, 3u, 4u, 7u}) {
    const auto layouts = lay_out({&info, 1}, {.world_size = world});
    ASSERT_TRUE(layouts);
    const Section& section = layouts->front().sections[0];
    EXPECT_EQ(section.shard_elements % kSegmentAlignment, 0u);
    EXPECT_EQ(section.shard_elements * world, section.elements);
    std::uint64_t covered = 0;
    for (std::uint32_t rank = 0; rank < world; ++rank) {
      for (const auto& part :
           parts_within(section, rank * section.shard_elements, (rank + 1) * section.shard_elements)) {
        EXPECT_EQ(part.first % kSegmentAlignment, 0u);
        covered += part.count;
      }
    }
    EXPECT_EQ(covered, 1077u);
  }
}

TEST(SegmentTableTest, SubGroupsTileTheShard) {
  const UnitInfo info = unit({{"a", {20'000}}});
  const auto layouts = lay_out({&info, 1}, {.sub_group_elements = 9'000});
  const Section& section = layouts->front().sections[0];
  ASSERT_EQ(section.sub_groups.size(), 3u);
  EXPECT_EQ(section.sub_groups[0].end, 8192u);
  EXPECT_EQ(section.sub_groups[1].begin, 8192u);
  EXPECT_EQ(section.sub_groups[2].end, section.shard_elements);
  EXPECT_EQ(state_arrays(DType::kBFloat16, section.sub_groups[0]).count, 3u);
  EXPECT_EQ(state_arrays(DType::kFloat32, section.sub_groups[2]).count, 2u);
  EXPECT_EQ(state_arrays(DType::kFloat32, {0, 256}).stride, 1024u);
}

TEST(SegmentTableTest, RefusesNamesAndShapesThatCannotBe) {
  const UnitInfo twice = unit({{"a", {1}}, {"a", {1}}});
  EXPECT_EQ(lay_out({&twice, 1}, {}).error().code, ErrorCode::kConfig);
  const UnitInfo negative = unit({{"a", {-1}}});
  EXPECT_FALSE(lay_out({&negative, 1}, {}));
  const UnitInfo huge = unit({{"a", {1ll << 40, 1ll << 40}}});
  EXPECT_FALSE(lay_out({&huge, 1}, {}));
  const UnitInfo empty = unit({{"", {1}}});
  EXPECT_FALSE(lay_out({&empty, 1}, {}));
}

}  // namespace
}  // namespace strata::zero
