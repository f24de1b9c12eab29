// Random models, placements and budgets: what the plan says fits trains within its budgets, and what it says is needed
// is needed. Budgets are the smallest that the plan accepts, so that a byte too few shows as an error in the step.
#include <random>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "engine/engine.hpp"
#include "support/seed.hpp"
#include "support/temp_dir.hpp"

namespace strata {
namespace {

using engine::Engine;
using engine::EngineOptions;

constexpr std::int64_t kRows = 2;
constexpr std::int64_t kColumns = 512;

class RandomRun {
 public:
  explicit RandomRun(std::uint64_t seed) : random_(seed) {
    Config& config = options_.config;
    config.precision = chance(0.5) ? Precision::kBf16 : Precision::kFp32;
    config.accumulation = 1 + below(2);
    config.grad_accum_dtype = chance(0.5) ? DType::kFloat32 : DType::kBFloat16;
    config.optimizer.lr = 1e-3;
    config.zero.stage = 3;
    config.zero.offload_param.device = pick({OffloadDevice::kNone, OffloadDevice::kCpu, OffloadDevice::kNvme,
                                             OffloadDevice::kNvme});
    config.zero.offload_param.max_in_cpu = chance(0.5) ? 0 : below(200'000);
    config.zero.offload_optimizer.device = pick({OffloadDevice::kNone, OffloadDevice::kCpu, OffloadDevice::kNvme,
                                                 OffloadDevice::kNvme});
    config.zero.offload_optimizer.ratio = chance(0.5) ? 1.0 : static_cast<double>(below(100)) / 100;
    config.strata.durable_steps = chance(0.8);
    config.strata.commit_interval = 1 + below(2);
    config.aio.block_size = Bytes(64u << 10);
    options_.mode = chance(0.1) ? engine::Mode::kInMemory : engine::Mode::kOffloaded;
    options_.recompute = chance(0.7) ? engine::Recompute::kPerUnit : engine::Recompute::kNone;
    options_.addressing = chance(0.3) ? device::Addressing::kSeparate : device::Addressing::kShared;
    options_.lookahead_units = below(4);
    options_.optimizer_threads = 1;
    options_.steps = 2;
    make_units();
    make_stages();
    options_.disk_space = Bytes(1u << 30);
  }

  /// Raises what is too small until all fits: the smallest budgets in steps of a block.
  void shrink_budgets() {
    for (int round = 0; round < 64; ++round) {
      const engine::MemoryPlan plan = must_plan();
      if (!plan.misfit) return;
      budget(plan.misfit->tier) = round_up(plan.misfit->needed, kBlockAlignment);
    }
    FAIL() << "what the plan asks for is never enough";
  }

  void expect_less_is_refused() {
    for (const Tier tier : {Tier::kDevice, Tier::kHost}) {
      if (budget(tier) < kBlockAlignment * 2) continue;
      budget(tier) = budget(tier) - kBlockAlignment;
      EXPECT_TRUE(must_plan().misfit) << "less of the " << name_of(tier) << " tier would have been enough";
      budget(tier) += kBlockAlignment;
    }
  }

  void train(const std::filesystem::path& folder) {
    EngineOptions options = options_;
    options.folder = folder;
    options.paths = {folder};
    auto opened = Engine::open(options);
    ASSERT_TRUE(opened) << to_string(opened.error());
    Engine& engine = **opened;
    const Status filled =
        engine.initialize([](const zero::Segment&, std::uint64_t first, std::span<float> out) -> Status {
          for (std::size_t i = 0; i < out.size(); ++i) out[i] = 1e-3f * static_cast<float>((first + i) % 100);
          return {};
        });
    ASSERT_TRUE(filled) << to_string(filled.error());
    static_cast<void>(engine.take_peaks());
    for (int step = 0; step < 2; ++step) {
      engine.begin_step();
      for (std::uint64_t m = 0; m < options.config.accumulation; ++m) {
        engine.begin_micro_batch(m + 1 == options.config.accumulation ? zero::MicroBatchPosition::kLast
                                                                      : zero::MicroBatchPosition::kNotLast);
        const Status computed = engine.compute([&] { forward_and_backward(engine); });
        ASSERT_TRUE(computed) << "step " << step << ": " << to_string(computed.error());
      }
      const auto report = engine.step(1);
      ASSERT_TRUE(report) << "step " << step << ": " << to_string(report.error());
      EXPECT_GT(report->grad_norm, 0);
      const auto peaks = engine.take_peaks();
      EXPECT_LE(peaks[0].value, options.device_memory.value);
      EXPECT_LE(peaks[1].value, options.host_memory.value);
    }
    const Status saved = engine.save();
    ASSERT_TRUE(saved) << to_string(saved.error());
    EXPECT_TRUE(engine.state_digest());
  }

  [[nodiscard]] std::string describe() {
    std::string text = engine::format_plan(must_plan());
    for (const auto& unit : options_.units) {
      text += "\n" + unit.name + ":";
      for (const auto& p : unit.parameters) {
        text += " " + std::to_string(p.shape[0]) + (p.dtype == DType::kFloat32 ? "f" : "b") +
                (p.trainable == zero::Trainable::kYes ? "" : "!");
      }
    }
    for (const auto& stage : options_.bound_together) {
      text += "\nstage";
      for (const auto unit : stage) text += " " + std::to_string(unit);
    }
    const auto& zero = options_.config.zero;
    text += "\nparam " + std::to_string(static_cast<int>(zero.offload_param.device)) + " optimizer " +
            std::to_string(static_cast<int>(zero.offload_optimizer.device)) + " separate " +
            std::to_string(static_cast<int>(options_.addressing)) + " recompute " +
            std::to_string(static_cast<int>(options_.recompute));
    return text;
  }

 private:
  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  bool chance(double p) { return std::uniform_real_distribution<>(0, 1)(random_) < p; }
  OffloadDevice pick(std::initializer_list<OffloadDevice> from) { return from.begin()[below(from.size())]; }

  Bytes& budget(Tier tier) {
    return tier == Tier::kDevice ? options_.device_memory
           : tier == Tier::kHost ? options_.host_memory
                                 : options_.disk_space;
  }

  engine::MemoryPlan must_plan() {
    auto plan = Engine::plan(options_);
    EXPECT_TRUE(plan) << to_string(plan.error());
    return plan.value_or(engine::MemoryPlan{});
  }

  void make_units() {
    const std::size_t count = 2 + below(4);
    for (std::size_t u = 0; u < count; ++u) {
      zero::UnitInfo unit{"u" + std::to_string(u), {}};
      const std::size_t parameters = 1 + below(3);
      for (std::size_t p = 0; p < parameters; ++p) {
        zero::ParameterInfo parameter;
        parameter.name = unit.name + ".p" + std::to_string(p);
        const std::uint64_t size = chance(0.3) ? below(150'000) : below(4'000);
        parameter.shape = {static_cast<std::int64_t>(size + 1)};
        parameter.dtype = options_.config.precision == Precision::kBf16 && chance(0.8) ? DType::kBFloat16
                                                                                       : DType::kFloat32;
        if (p > 0 && chance(0.05)) parameter.shape = {0};
        // The first one is trained, so that there is a gradient.
        if (p > 0 && chance(0.2)) parameter.trainable = zero::Trainable::kNo;
        unit.parameters.push_back(std::move(parameter));
      }
      options_.units.push_back(std::move(unit));
    }
  }

  void make_stages() {
    std::vector<std::uint32_t> uses(options_.units.size(), 0);
    const auto add = [&](std::vector<std::uint32_t> units) {
      std::vector<zero::UnitUse> stage;
      for (const auto unit : units) stage.push_back({UnitId(unit), uses[unit]++});
      options_.bound_together.push_back(std::move(units));
      stages_.push_back(std::move(stage));
    };
    for (std::uint32_t u = 0; u < options_.units.size();) {
      std::vector<std::uint32_t> units = {u++};
      if (u < options_.units.size() && chance(0.3)) units.push_back(u++);
      add(std::move(units));
    }
    if (chance(0.5)) add({static_cast<std::uint32_t>(below(options_.units.size()))});  // tied
    options_.recomputed_stages = static_cast<std::uint32_t>(stages_.size());
    Bytes widest;
    for (const auto& stage : options_.bound_together) {
      Bytes wide;
      for (const auto unit : stage) {
        for (const auto& p : options_.units[unit].parameters) {
          wide += bytes_of(DType::kFloat32, static_cast<std::uint64_t>(p.shape[0])) * 6 + Bytes(8u << 10);
        }
      }
      widest = std::max(widest, wide);
    }
    const Bytes input = bytes_of(DType::kFloat32, kRows * kColumns);
    options_.activations = {.checkpoint_per_stage = input + Bytes(1024),
                            .stage_internal = widest + input * 8,
                            .last_stage = widest + input * 8,
                            .stages = options_.recomputed_stages};
  }

  void forward_and_backward(Engine& engine) {
    at::Tensor x = at::ones({kRows, kColumns}).mul(0.5).set_requires_grad(true);
    for (std::uint32_t s = 0; s < stages_.size(); ++s) {
      const zero::UnitCall call{stages_[s], [](std::span<const at::Tensor> parameters, const at::Tensor& in) {
                                  at::Tensor scale = at::ones({});
                                  for (const auto& p : parameters) scale = scale + p.sum().to(at::kFloat) * 1e-3;
                                  return in * scale;
                                }};
      x = options_.recompute == engine::Recompute::kPerUnit
              ? zero::run_unit_recomputed(engine.runtime(), engine.tiers(), call, x, engine.spill_slot(s))
              : zero::run_unit(engine.runtime(), call, x);
    }
    x.mean().backward();
  }

  std::mt19937_64 random_;
  EngineOptions options_;
  std::vector<std::vector<zero::UnitUse>> stages_;
};

TEST(MemoryPlanPropertyTest, WhatFitsTrainsWithinItsBudgetsAndLessIsRefused) {
  const std::uint64_t seed = testing::test_seed();
  const testing::TempDir folder;
  for (std::uint64_t i = 0; i < 40; ++i) {
    SCOPED_TRACE("STRATA_TEST_SEED=" + std::to_string(seed + i));
    RandomRun run(seed + i);
    run.shrink_budgets();
    run.expect_less_is_refused();
    run.train(folder.path() / std::to_string(i));
    if (HasFailure()) {
      FAIL() << run.describe();
    }
    std::filesystem::remove_all(folder.path() / std::to_string(i));
  }
}

}  // namespace
}  // namespace strata
