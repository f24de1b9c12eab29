// Values worked out by hand from DeepSpeed's formulas; index = applied steps - 1.
#include "optim/lr_schedule.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace strata::optim {
namespace {

TEST(LrScheduleTest, ConstantIsTheOptimizersRate) {
  EXPECT_EQ(lr_at({.base_lr = 0.25}, 0), 0.25);
  EXPECT_EQ(lr_at({.base_lr = 0.25}, 1'000'000), 0.25);
}

TEST(LrScheduleTest, LinearWarmupStartsTwiceAtTheMinimum) {
  const LrScheduleSettings s = {.kind = LrScheduleKind::kWarmup,
                                .base_lr = 9,
                                .warmup_min_lr = 1,
                                .warmup_max_lr = 5.0,
                                .warmup_num_steps = 4,
                                .curve = WarmupCurve::kLinear};
  const double expected[] = {1, 1, 2, 3, 4, 5, 5, 5};  // before the first scheduler step, then index 0, 1, 2, ...
  for (std::uint64_t step = 0; step < 8; ++step) EXPECT_DOUBLE_EQ(lr_at(s, step), expected[step]) << step;
  EXPECT_EQ(lr_at(s, 1ull << 40), 5);
}

TEST(LrScheduleTest, LogWarmupFollowsTheLogarithm) {
  const LrScheduleSettings s = {.kind = LrScheduleKind::kWarmup, .base_lr = 2, .warmup_num_steps = 8};
  EXPECT_EQ(lr_at(s, 0), 0);
  EXPECT_EQ(lr_at(s, 1), 0);                       // ln 1 / ln 8
  EXPECT_DOUBLE_EQ(lr_at(s, 2), 2.0 * 1.0 / 3.0);  // ln 2 / ln 8
  EXPECT_DOUBLE_EQ(lr_at(s, 4), 2.0 * 2.0 / 3.0);  // ln 4 / ln 8
  EXPECT_DOUBLE_EQ(lr_at(s, 8), 2.0);              // ln 8 / ln 8, the last warm index
  EXPECT_EQ(lr_at(s, 9), 2.0);
}

TEST(LrScheduleTest, WarmupIsAtLeastTwoSteps) {
  const LrScheduleSettings s = {
      .kind = LrScheduleKind::kWarmup, .base_lr = 4, .warmup_num_steps = 0, .curve = WarmupCurve::kLinear};
  EXPECT_EQ(lr_at(s, 1), 0);
  EXPECT_EQ(lr_at(s, 2), 2);
  EXPECT_EQ(lr_at(s, 3), 4);
}

TEST(LrScheduleTest, DecayReachesZeroAtTheTotalAndStays) {
  const LrScheduleSettings s = {.kind = LrScheduleKind::kWarmupDecay,
                                .warmup_max_lr = 1.0,
                                .warmup_num_steps = 2,
                                .curve = WarmupCurve::kLinear,
                                .total_num_steps = 6};
  const double expected[] = {0, 0, 0.5, 1, 0.75, 0.5, 0.25, 0, 0};
  for (std::uint64_t step = 0; step < 9; ++step) EXPECT_DOUBLE_EQ(lr_at(s, step), expected[step]) << step;
}

TEST(LrScheduleTest, DecayHasItsOwnDefaultMaximum) {
  const LrScheduleSettings s = {
      .kind = LrScheduleKind::kWarmupDecay, .base_lr = 7, .warmup_num_steps = 2, .total_num_steps = 100};
  EXPECT_DOUBLE_EQ(lr_at(s, 3), 1e-3);
}

TEST(LrScheduleTest, TotalBelowWarmupDecaysAtOnce) {
  const LrScheduleSettings s = {.kind = LrScheduleKind::kWarmupDecay,
                                .warmup_max_lr = 1.0,
                                .warmup_num_steps = 4,
                                .curve = WarmupCurve::kLinear,
                                .total_num_steps = 3};
  EXPECT_DOUBLE_EQ(lr_at(s, 4), 0.75);
  EXPECT_EQ(lr_at(s, 5), 0);
}

TEST(LrScheduleTest, CosineGoesFromZeroToTheFloor) {
  const LrScheduleSettings s = {.kind = LrScheduleKind::kWarmupCosine,
                                .base_lr = 10,
                                .warmup_num_steps = 2,
                                .curve = WarmupCurve::kLinear,
                                .total_num_steps = 6,
                                .warmup_min_ratio = 0.2,
                                .cos_min_ratio = 0.1};
  EXPECT_EQ(lr_at(s, 0), 0);         // not yet started: 0, not warmup_min_ratio
  EXPECT_DOUBLE_EQ(lr_at(s, 1), 2);  // index 0
  EXPECT_DOUBLE_EQ(lr_at(s, 2), 6);  // index 1: 0.2 + 0.5 * 0.8
  // index i >= 2: progress (i - 1) / 4
  EXPECT_DOUBLE_EQ(lr_at(s, 3), 10 * (0.1 + 0.9 * (1 + std::sqrt(0.5)) / 2));
  EXPECT_DOUBLE_EQ(lr_at(s, 4), 10 * (0.1 + 0.9 * 0.5));
  EXPECT_DOUBLE_EQ(lr_at(s, 5), 10 * (0.1 + 0.9 * (1 - std::sqrt(0.5)) / 2));
  EXPECT_DOUBLE_EQ(lr_at(s, 6), 1);
  EXPECT_DOUBLE_EQ(lr_at(s, 60), 1);  // stays at the floor, does not swing back
}

}  // namespace
}  // namespace strata::optim
