// A disk that fails under training: the next step is exact, or the run has ended clearly and resumes exactly.
#include <cmath>
#include <limits>
#include <map>

#include <torch/nn/modules.h>

#include "support/module_engine.hpp"
#include "support/temp_dir.hpp"

namespace strata {
namespace {

using engine::EngineOptions;
using testing::FailurePlan;
using testing::ModuleEngineOptions;
using torch::nn::Linear;

constexpr std::uint32_t kUnits = 8;
constexpr std::int64_t kWidth = 32;

/// Where things live, and how the step runs.
struct Scene {
  std::string name;
  bool recompute = false;
  std::uint64_t accumulation = 1;
  at::ScalarType type = at::kFloat;
  std::function<void(EngineOptions&)> adjust = {};
};

class Training {
 public:
  Training(const std::filesystem::path& folder, const Scene& scene, engine::Opening opening = engine::Opening::kNew)
      : scene_(scene), failures_(std::make_shared<FailurePlan>()) {
    torch::manual_seed(opening == engine::Opening::kNew ? 7 : 8);  // a resumed run takes nothing from the modules
    for (std::uint32_t u = 0; u < kUnits; ++u) {
      linears_.push_back(Linear(kWidth, kWidth));
      linears_.back()->to(scene.type);
    }
    std::vector<std::pair<std::string, const torch::nn::Module*>> modules;
    for (std::uint32_t u = 0; u < kUnits; ++u) modules.emplace_back("u" + std::to_string(u), linears_[u].get());
    ModuleEngineOptions options;
    options.accumulation = scene.accumulation;
    options.clipping = 0.5;
    options.failures = failures_;
    options.opening = opening;
    options.adjust = [&scene](EngineOptions& engine) {
      engine.config.precision = scene.type == at::kBFloat16 ? Precision::kBf16 : Precision::kFp32;
      if (scene.adjust) scene.adjust(engine);
    };
    auto opened = testing::open_module_engine(modules, folder, options);
    if (opened) {
      engine_ = *std::move(opened);
    } else {
      error_ = opened.error();
    }
  }

  [[nodiscard]] explicit operator bool() const { return engine_ != nullptr; }
  [[nodiscard]] const Error& error() const { return error_; }
  [[nodiscard]] engine::Engine& engine() { return *engine_; }
  [[nodiscard]] FailurePlan& failures() { return *failures_; }
  [[nodiscard]] at::Tensor weight(std::uint32_t unit) { return linears_[unit]->weight; }

  /// One attempt at the next step. `factor` multiplies the loss.
  Result<engine::StepReport> try_step(float factor = 1) {
    engine_->begin_step();
    for (std::uint64_t m = 0; m < scene_.accumulation; ++m) {
      engine_->begin_micro_batch(m + 1 == scene_.accumulation ? zero::MicroBatchPosition::kLast
                                                              : zero::MicroBatchPosition::kNotLast);
      STRATA_TRY(engine_->compute([&] { forward_and_backward(m, factor); }));
    }
    return engine_->step(1);
  }

  engine::StepReport step(float factor = 1) {
    auto report = try_step(factor);
    EXPECT_TRUE(report) << scene_.name << ": " << (report ? "" : to_string(report.error()));
    return report ? *report : engine::StepReport{};
  }

  std::string digest() {
    auto digest = engine_->state_digest();
    EXPECT_TRUE(digest) << scene_.name << ": " << (digest ? "" : to_string(digest.error()));
    return digest.value_or("");
  }

 private:
  void forward_and_backward(std::uint64_t micro_batch, float factor) {
    const auto step = static_cast<double>(engine_->progress().step + 1);
    at::Tensor x = at::arange(3 * kWidth)
                       .view({3, kWidth})
                       .to(at::kFloat)
                       .mul(0.01 * (step + static_cast<double>(micro_batch) / 8))
                       .sin()
                       .to(scene_.type);
    for (std::uint32_t u = 0; u < kUnits; ++u) {
      const zero::UnitCall call{{{UnitId(u), 0}}, [this, u](std::span<const at::Tensor>, const at::Tensor& in) {
                                  return at::tanh(linears_[u]->forward(in));
                                }};
      const auto spill = scene_.recompute ? engine_->spill_slot(u) : std::nullopt;
      x = scene_.recompute ? zero::run_unit_recomputed(engine_->runtime(), engine_->tiers(), call, x, spill)
                           : zero::run_unit(engine_->runtime(), call, x);
    }
    x.to(at::kFloat).pow(2).mean().mul(factor).backward();
  }

  Scene scene_;
  std::shared_ptr<FailurePlan> failures_;
  std::vector<Linear> linears_;
  std::unique_ptr<engine::Engine> engine_;
  Error error_;
};

void two_homes(EngineOptions& options) {
  options.config.zero.offload_optimizer.ratio = 0.5;
  options.config.zero.offload_param.max_in_cpu = 2 * (kWidth * kWidth + 256);
}

enum class Gradients { kStay, kSpill };

/// The smallest host budget with which gradients stay, or with which the plan fits at all: everything else is read from
/// the disk and written to it in every step.
void tight(EngineOptions& options, Gradients gradients) {
  options.host_memory = Bytes(0);
  while (options.host_memory < Bytes(64u << 20)) {
    options.host_memory += kBlockAlignment;
    const auto plan = engine::Engine::plan(options);
    ASSERT_TRUE(plan);
    const auto& on_disk = plan->tiers[static_cast<std::size_t>(Tier::kDisk)].by_kind;
    const bool spilled = on_disk[static_cast<std::size_t>(Kind::kGradient)].value > 0;
    if (plan->misfit || (spilled && gradients == Gradients::kStay)) continue;
    ASSERT_EQ(spilled, gradients == Gradients::kSpill);
    return;
  }
  FAIL() << "no budget fits";
}

/// Stage inputs wait for backward on the disk instead of the device.
void spilled_inputs(EngineOptions& options) {
  options.recomputed_stages = kUnits;
  options.activations = {.checkpoint_per_stage = Bytes(3 * kWidth * 4),
                         .stage_internal = Bytes(256u << 10),
                         .last_stage = Bytes(256u << 10),
                         .stages = kUnits};
  // Room for three stage inputs and not for four.
  const Bytes all = options.device_memory;
  options.device_memory = Bytes(0);
  while (options.device_memory < all) {
    options.device_memory += Bytes(256);
    const auto plan = engine::Engine::plan(options);
    ASSERT_TRUE(plan);
    if (plan->misfit) continue;
    ASSERT_NE(plan->checkpoints, engine::ActivationHome::kDevice);
    break;
  }
  tight(options, Gradients::kSpill);
}

std::vector<Scene> scenes() {
  const auto stay = [](EngineOptions& options) { tight(options, Gradients::kStay); };
  const auto two = [](EngineOptions& options) {
    two_homes(options);
    tight(options, Gradients::kStay);
  };
  return {{.name = "disk", .adjust = stay},
          {.name = "disk, bf16, accumulation",
           .recompute = true,
           .accumulation = 2,
           .type = at::kBFloat16,
           .adjust = stay},
          {.name = "host and disk", .recompute = true, .type = at::kBFloat16, .adjust = two},
          {.name = "host and disk, fp32", .accumulation = 2, .adjust = two},
          {.name = "separate arena",
           .type = at::kBFloat16,
           .adjust =
               [](EngineOptions& options) {
                 options.addressing = device::Addressing::kSeparate;
                 tight(options, Gradients::kStay);
               }},
          {.name = "spilled gradients",
           .accumulation = 2,
           .adjust = [](EngineOptions& options) { tight(options, Gradients::kSpill); }},
          {.name = "spilled inputs", .recompute = true, .adjust = spilled_inputs}};
}

std::vector<std::string> reference_digests(const Scene& scene, int steps, const std::filesystem::path& folder) {
  Training training(folder, scene);
  EXPECT_TRUE(training) << scene.name << ": " << to_string(training.error());
  std::vector<std::string> digests = {""};
  for (int s = 0; s < steps && training; ++s) {
    training.step();
    digests.push_back(training.digest());
  }
  return digests;
}

TEST(EngineFaultsTest, AStepWhoseReadFailsIsRepeatedExactly) {
  for (const Scene& scene : scenes()) {
    SCOPED_TRACE(scene.name);
    const testing::TempDir folder;
    Training training(folder.path() / "run", scene);
    ASSERT_TRUE(training) << to_string(training.error());
    training.step();
    std::uint64_t failures = 0;
    std::uint64_t errors = 0;
    std::uint64_t nth = 1;
    for (;; ++nth) {
      training.failures().fail_nth(io::Op::kRead, nth, 1);  // one read ahead and the one that follows it
      auto report = training.try_step();
      const bool failed = training.failures().failed() > 0;
      training.failures().stop();
      failures += failed ? 1 : 0;
      if (!report) {
        ++errors;
        EXPECT_EQ(report.error().code, ErrorCode::kIo) << to_string(report.error());
        EXPECT_NE(report.error().message.find("injected"), std::string::npos) << to_string(report.error());
        training.engine().abort_step();
        training.step();
      }
      if (!failed) break;
    }
    EXPECT_GT(failures, 4u);
    EXPECT_GT(errors, 4u) << "lookahead has hidden them all";
    const auto steps = static_cast<int>(training.engine().progress().step);
    EXPECT_EQ(steps, static_cast<int>(nth) + 1);
    EXPECT_EQ(training.digest(), reference_digests(scene, steps, folder.path() / "reference").back());
  }
}

/// The run has ended as a killed process does: nothing was saved. It resumes from what it has promised to be durable,
/// or from the step after, whose commit failed when all was written, and trains on.
void expect_resumes_exactly(const std::filesystem::path& run, const Scene& scene, std::uint64_t durable,
                            const std::vector<std::string>& reference) {
  Training resumed(run, scene, engine::Opening::kResume);
  ASSERT_TRUE(resumed) << to_string(resumed.error());
  const std::uint64_t step = resumed.engine().progress().step;
  ASSERT_TRUE(step == durable || step == durable + 1) << step << " for " << durable;
  EXPECT_EQ(resumed.digest(), reference[step]);
  while (resumed.engine().progress().step + 1 < reference.size()) resumed.step();
  EXPECT_EQ(resumed.digest(), reference.back());
}

TEST(EngineFaultsTest, ADiskThatStopsReadingLeavesTheStateBeforeOrEndsTheRun) {
  const Scene scene = scenes()[2];
  const testing::TempDir folder;
  const auto reference = reference_digests(scene, 3, folder.path() / "reference");
  int repeated = 0;
  int ended = 0;
  bool failed = true;
  for (std::uint64_t nth = 1; failed; nth += 2) {
    SCOPED_TRACE(nth);
    const auto run = folder.path() / ("run" + std::to_string(nth));
    bool over = false;
    {
      Training training(run, scene);
      ASSERT_TRUE(training) << to_string(training.error());
      training.step();
      ASSERT_TRUE(training.engine().save());
      training.failures().fail_nth(io::Op::kRead, nth, 1000);
      const auto report = training.try_step();
      failed = training.failures().failed() > 0;
      training.failures().stop();
      if (report) continue;
      training.engine().abort_step();
      const auto again = training.try_step();
      over = !again;
      if (over) {  // the state before the step could not be read back either
        ++ended;
        EXPECT_NE(again.error().message.find("can't be undone"), std::string::npos) << to_string(again.error());
        EXPECT_NE(again.error().hint.find("resume from step 1"), std::string::npos) << to_string(again.error());
        EXPECT_FALSE(training.engine().save()) << "half a step was committed";
      } else {
        ++repeated;
        EXPECT_EQ(training.digest(), reference[2]);
      }
    }
    if (over) expect_resumes_exactly(run, scene, 1, reference);
  }
  EXPECT_GT(repeated, 1);
  EXPECT_GT(ended, 0);
}

TEST(EngineFaultsTest, AFailedWriteOrFlushEndsTheRunAndItResumesExactly) {
  for (const Scene& scene : {scenes()[0], scenes()[2]}) {
    SCOPED_TRACE(scene.name);
    const testing::TempDir folder;
    const auto reference = reference_digests(scene, 5, folder.path() / "reference");
    for (const io::Op op : {io::Op::kWrite, io::Op::kFlush}) {
      int runs = 0;
      for (std::uint64_t nth = 1;; nth += op == io::Op::kWrite ? 3 : 1) {
        SCOPED_TRACE((op == io::Op::kWrite ? "write " : "flush ") + std::to_string(nth));
        const auto run = folder.path() / ("run" + std::to_string(static_cast<int>(op)) + "-" + std::to_string(nth));
        std::uint64_t durable = 0;
        bool failed = false;
        {
          Training training(run, scene);
          ASSERT_TRUE(training) << to_string(training.error());
          training.step();
          training.step();
          ASSERT_TRUE(training.engine().save());
          training.failures().fail_nth(op, nth);
          std::optional<Error> error;
          for (int s = 0; s < 2 && !error; ++s) {
            if (auto report = training.try_step(); !report) error = report.error();
          }
          if (!error) {
            if (auto saved = training.engine().save(); !saved) error = saved.error();
          }
          failed = training.failures().failed() > 0;
          ASSERT_EQ(failed, error.has_value()) << "a failure was swallowed";
          if (error) {
            EXPECT_NE(error->message.find("injected"), std::string::npos) << to_string(*error);
            EXPECT_NE(error->hint.find("resume"), std::string::npos) << to_string(*error);
            training.engine().abort_step();
            const auto again = training.try_step();
            ASSERT_FALSE(again) << "it went on after " << to_string(*error);
            EXPECT_FALSE(training.engine().save());
          }
          durable = training.engine().durable().step;
        }
        if (!failed) break;
        ++runs;
        EXPECT_GE(durable, 2u);
        expect_resumes_exactly(run, scene, durable, reference);
      }
      EXPECT_GT(runs, 2);
    }
  }
}

TEST(EngineFaultsTest, ASpillThatFailsToBeWrittenCostsItsStepOnly) {
  const Scene scene = scenes()[5];
  const testing::TempDir folder;
  Training training(folder.path() / "run", scene);
  ASSERT_TRUE(training) << to_string(training.error());
  training.step();
  ASSERT_TRUE(training.engine().save());
  training.failures().fail_nth(io::Op::kWrite, 1);  // the first gradient that goes to the disk
  const auto report = training.try_step();
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, ErrorCode::kIo);
  training.engine().abort_step();
  training.step();
  training.step();
  ASSERT_TRUE(training.engine().save());
  EXPECT_EQ(training.digest(), reference_digests(scene, 3, folder.path() / "reference").back());
}

TEST(EngineFaultsTest, AWeightOutsideItsUnitThatCannotBeReadIsAnErrorNotACrash) {
  const Scene scene = scenes()[0];
  const testing::TempDir folder;
  Training training(folder.path() / "run", scene);
  ASSERT_TRUE(training) << to_string(training.error());
  training.step();
  for (const Tier tier : {Tier::kDevice, Tier::kHost}) training.engine().tiers().drop_unleased(tier);
  training.failures().fail_nth(io::Op::kRead, 1, 1000);
  training.engine().begin_step();
  float sum = -1;
  const auto status = training.engine().compute([&] {
    const at::NoGradGuard guard;
    sum = training.weight(6).mul(training.weight(7)).sum().item<float>();  // kernels that crash on a null storage
  });
  training.failures().stop();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kIo) << to_string(status.error());
  EXPECT_EQ(sum, 0);
  training.engine().abort_step();
  training.step();
  EXPECT_EQ(training.digest(), reference_digests(scene, 2, folder.path() / "reference").back());
}

TEST(EngineFaultsTest, AccumulationTypesDifferButPlacesDoNot) {
  std::map<DType, std::string> digests;
  for (const DType type : {DType::kFloat32, DType::kBFloat16}) {
    for (const std::size_t where : {1u, 2u, 5u, 6u}) {
      Scene scene = scenes()[where];
      scene.accumulation = 3;
      scene.type = at::kBFloat16;
      scene.adjust = [type, adjust = scene.adjust](EngineOptions& options) {
        options.config.grad_accum_dtype = type;
        adjust(options);
      };
      SCOPED_TRACE(scene.name + " " + std::string(name_of(type)));
      const testing::TempDir folder;
      const std::string digest = reference_digests(scene, 3, folder.path() / "run").back();
      EXPECT_FALSE(digest.empty());
      EXPECT_EQ(digests.try_emplace(type, digest).first->second, digest);
    }
  }
  EXPECT_NE(digests[DType::kFloat32], digests[DType::kBFloat16]) << "the setting has no effect";
}

TEST(EngineFaultsTest, AFirstStepThatFailsHalfWayEndsTheRun) {
  const Scene scene = scenes()[0];
  const testing::TempDir folder;
  std::uint64_t reads_before = 0;
  {
    Training counted(folder.path() / "counted", scene);
    counted.engine().begin_step();
    const auto before = counted.failures().seen(io::Op::kRead);
    counted.step();
    reads_before = counted.failures().seen(io::Op::kRead) - before;
  }
  Training training(folder.path() / "run", scene);
  ASSERT_TRUE(training);
  training.failures().fail_nth(io::Op::kRead, reads_before);  // the optimizer's last
  const auto report = training.try_step();
  ASSERT_FALSE(report);
  EXPECT_NE(report.error().hint.find("nothing was committed yet"), std::string::npos) << to_string(report.error());
  training.engine().abort_step();
  EXPECT_FALSE(training.try_step());
  EXPECT_FALSE(training.engine().save());
}

TEST(EngineFaultsTest, AStepWithANonFiniteGradientIsSkippedAndCounted) {
  for (const Scene& base : {scenes()[0], scenes()[2]}) {
    SCOPED_TRACE(base.name);
    Scene scene = base;
    scene.adjust = [&base](EngineOptions& options) {
      if (base.adjust) base.adjust(options);
      options.config.scheduler.type = SchedulerType::kWarmupLR;
      options.config.scheduler.warmup_num_steps = 10;
      options.config.scheduler.warmup_max_lr = 0.01;
    };
    const testing::TempDir folder;
    Training training(folder.path() / "run", scene);
    ASSERT_TRUE(training) << to_string(training.error());
    training.step();
    const auto before = training.step();
    const std::string digest = training.digest();
    const auto skipped = training.step(std::numeric_limits<float>::quiet_NaN());
    EXPECT_TRUE(skipped.skipped);
    EXPECT_EQ(skipped.skip_reason, "gradient not finite");
    EXPECT_EQ(skipped.step, 3u);
    EXPECT_EQ(skipped.applied_steps, 2u);
    EXPECT_TRUE(std::isnan(skipped.grad_norm));
    EXPECT_EQ(training.digest(), digest) << "the state changed";
    EXPECT_EQ(training.engine().progress().samples, 3u);
    ASSERT_TRUE(training.engine().save());
    EXPECT_EQ(training.engine().durable().step, 3u);
    const auto after = training.step();
    EXPECT_GT(skipped.lr, before.lr);
    EXPECT_EQ(after.lr, skipped.lr) << "the schedule moved on over a skipped step";
    EXPECT_EQ(after.applied_steps, 3u);
    const std::string end = training.digest();

    // A resume in between gives the same.
    {
      Training other(folder.path() / "other", scene);
      other.step();
      other.step();
      other.step(std::numeric_limits<float>::infinity());
      ASSERT_TRUE(other.engine().save());
    }
    Training resumed(folder.path() / "other", scene, engine::Opening::kResume);
    ASSERT_TRUE(resumed) << to_string(resumed.error());
    EXPECT_EQ(resumed.engine().progress().step, 3u);
    EXPECT_EQ(resumed.engine().progress().applied_steps, 2u);
    EXPECT_EQ(resumed.step().lr, after.lr);
    EXPECT_EQ(resumed.digest(), end);
  }
}

TEST(EngineFaultsTest, WithAnIntervalTheLastCommitIsWhatResumes) {
  Scene scene = scenes()[2];
  const testing::TempDir folder;
  const auto reference = reference_digests(scene, 7, folder.path() / "reference");
  scene.adjust = [](EngineOptions& options) {
    two_homes(options);
    tight(options, Gradients::kStay);
    options.config.strata.commit_interval = 3;
  };
  {
    Training training(folder.path() / "run", scene);
    ASSERT_TRUE(training) << to_string(training.error());
    EXPECT_EQ(training.engine().plan().slots, 3u);
    for (int s = 0; s < 5; ++s) training.step();
    EXPECT_EQ(training.digest(), reference[5]);
  }
  expect_resumes_exactly(folder.path() / "run", scene, 3, reference);
  // A step that fails half-way between commits can't be undone.
  Training training(folder.path() / "failed", scene);
  ASSERT_TRUE(training);
  for (int s = 0; s < 4; ++s) training.step();
  bool ended = false;
  for (std::uint64_t nth = 1; !ended && nth < 100; ++nth) {
    training.failures().fail_nth(io::Op::kRead, nth, 1);
    const auto report = training.try_step();
    if (report) continue;
    training.engine().abort_step();
    const auto again = training.try_step();
    if (again) continue;
    ended = true;
    EXPECT_EQ(training.engine().progress().step % 3 == 0, false);
    EXPECT_NE(again.error().hint.find("resume from step"), std::string::npos) << to_string(again.error());
  }
  EXPECT_TRUE(ended);
}

TEST(EngineFaultsTest, InPlaceRunsResumeWhenCleanAndAreRefusedWhenDirty) {
  Scene scene = scenes()[2];
  const testing::TempDir folder;
  const auto reference = reference_digests(scene, 5, folder.path() / "reference");
  scene.adjust = [](EngineOptions& options) {
    two_homes(options);
    tight(options, Gradients::kStay);
    options.config.strata.durable_steps = false;
  };
  {
    Training training(folder.path() / "run", scene);
    ASSERT_TRUE(training) << to_string(training.error());
    EXPECT_EQ(training.engine().plan().slots, 1u);
    for (int s = 0; s < 3; ++s) training.step();
  }
  expect_resumes_exactly(folder.path() / "run", scene, 3, reference);
  {
    Training training(folder.path() / "dirty", scene);
    ASSERT_TRUE(training);
    for (int s = 0; s < 2; ++s) training.step();
    ASSERT_TRUE(training.engine().save());
    std::uint64_t nth = 1;
    for (; nth < 100; ++nth) {
      training.failures().fail_nth(io::Op::kRead, nth, 1);
      if (training.try_step()) continue;
      training.engine().abort_step();
      if (!training.try_step()) break;
    }
    ASSERT_LT(nth, 100u) << "no step failed half-way";
  }
  Training dirty(folder.path() / "dirty", scene, engine::Opening::kResume);
  ASSERT_FALSE(dirty);
  EXPECT_EQ(dirty.error().code, ErrorCode::kStore) << to_string(dirty.error());
}

}  // namespace
}  // namespace strata
