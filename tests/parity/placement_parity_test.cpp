// The spine: same seed and kernels give the same losses and state_digest, bit for bit, wherever the bytes lived.
#include <cstdlib>

#include "support/temp_dir.hpp"
#include "support/training.hpp"

namespace strata {
namespace {

using engine::Recompute;
using testing::Case;
using testing::Outcome;
using testing::Placement;

Outcome run(const Case& test, Placement placement, const testing::TempDir& folder) {
  const std::string run_name = "run" + std::to_string(static_cast<int>(placement)) + "-" + std::to_string(test.threads);
  return testing::train(test, testing::train_options(test, placement, folder.path(), run_name));
}

void expect_equal_everywhere(Case test, std::span<const Placement> placements) {
  SCOPED_TRACE(test.name());
  const testing::TempDir folder;
  test.threads = 1;
  const Outcome reference = run(test, Placement::kInMemory, folder);
  ASSERT_EQ(reference.losses.size(), test.steps);
  EXPECT_LT(reference.losses.back(), reference.losses.front()) << "nothing was learnt";
  EXPECT_LT(*std::min_element(reference.clip_factors.begin(), reference.clip_factors.end()), 1.0) << "never clipped";
  std::uint32_t threads = 2;
  for (const Placement placement : placements) {
    test.threads = threads;
    threads = 3 - threads;
    SCOPED_TRACE(testing::name_of(placement) + ", optimizer threads " + std::to_string(test.threads));
    const Outcome outcome = run(test, placement, folder);
    EXPECT_EQ(outcome.losses, reference.losses);
    EXPECT_EQ(outcome.digest, reference.digest);
  }
}

// A covering set: every value of every factor, and every pair of (placement, other factor), appears.
TEST(PlacementParityTest, Gpt2Bf16EverywhereWithRecompute) {
  expect_equal_everywhere({.model = "gpt2-tiny"}, testing::kPlacements);
}

TEST(PlacementParityTest, LlamaFp32EverywhereWithAccumulation) {
  expect_equal_everywhere(
      {.model = "llama-tiny", .precision = Precision::kFp32, .accumulation = 4, .recompute = Recompute::kNone},
      testing::kPlacements);
}

TEST(PlacementParityTest, LlamaBf16WithAccumulation) {
  const Placement some[] = {Placement::kDisk, Placement::kTwoUnitArena};
  expect_equal_everywhere({.model = "llama-tiny", .accumulation = 4}, some);
}

TEST(PlacementParityTest, Gpt2Fp32KeepsActivations) {
  const Placement some[] = {Placement::kSplit, Placement::kTwoUnitArena};
  expect_equal_everywhere({.model = "gpt2-tiny", .precision = Precision::kFp32, .recompute = Recompute::kNone}, some);
}

TEST(PlacementParityTest, RecomputeChangesNothing) {
  const testing::TempDir folder;
  Case test{.model = "gpt2-tiny"};
  const Outcome with = run(test, Placement::kInMemory, folder);
  test.recompute = Recompute::kNone;
  const Outcome without = run(test, Placement::kDisk, folder);
  EXPECT_EQ(with.losses, without.losses);
  EXPECT_EQ(with.digest, without.digest);
}

TEST(PlacementParityTest, GradientsAndStageInputsThatSpillChangeNothing) {
  const testing::TempDir folder;
  const Case test{.model = "gpt2-tiny", .precision = Precision::kFp32, .accumulation = 2};
  const Outcome reference = run(test, Placement::kInMemory, folder);
  auto options = testing::train_options(test, Placement::kDisk, folder.path(), "spilled");
  // The smallest budgets that the plan accepts: found by asking it.
  for (Bytes* budget : {&options.host_memory, &options.device_memory}) {
    Bytes low(1u << 20);
    while (true) {
      *budget = low;
      auto trial = options;
      trial.out = folder.path() / "trial";
      trial.paths = {trial.out};
      if (engine::Trainer::open(trial)) break;
      low += Bytes(256u << 10);
      ASSERT_LT(low, Bytes(64u << 20));
    }
    std::filesystem::remove_all(folder.path() / "trial");
  }
  std::string plan;
  options.report = [&plan](std::string_view line) { plan += std::string(line) + "\n"; };
  const Outcome outcome = testing::train(test, options);
  EXPECT_EQ(outcome.losses, reference.losses);
  EXPECT_EQ(outcome.digest, reference.digest);
  EXPECT_NE(plan.find("disk"), std::string::npos);
  EXPECT_NE(plan.find("gradient", plan.find("\ndisk")), std::string::npos) << plan;
}

// The whole matrix; minutes. ctest label `full`.
TEST(PlacementParityTest, WholeMatrix) {
  if (std::getenv("STRATA_FULL") == nullptr) GTEST_SKIP() << "set STRATA_FULL=1 (ctest -L full does)";
  for (const char* model : {"gpt2-tiny", "llama-tiny"}) {
    for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
      for (const std::uint64_t accumulation : {1, 4}) {
        for (const Recompute recompute : {Recompute::kNone, Recompute::kPerUnit}) {
          for (const std::uint32_t threads : {1u, 2u}) {
            Case test{.model = model, .precision = precision, .accumulation = accumulation, .recompute = recompute};
            test.threads = threads;
            expect_equal_everywhere(test, testing::kPlacements);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace strata
