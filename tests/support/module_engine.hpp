// An engine over a few torch modules with a device arena of two units and everything at home on the disk: the hardest
// placement for odd graphs.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "engine/engine.hpp"
#include "support/failing_io.hpp"
#include "zero/module_adapter.hpp"

namespace strata::testing {

struct ModuleEngineOptions {
  OffloadDevice device = OffloadDevice::kNvme;
  std::uint64_t accumulation = 1;
  double clipping = 0;
  std::vector<std::vector<std::uint32_t>> bound_together;  ///< empty: one unit at a time
  std::shared_ptr<FailurePlan> failures;                   ///< of the disk; may be null
  engine::Opening opening = engine::Opening::kNew;
  std::function<void(engine::EngineOptions&)> adjust;  ///< last word on the options; may be empty
};

/// Takes over the modules' parameters. A new run lies in `folder`, which must not exist; one that is resumed has
/// committed something.
inline Result<std::unique_ptr<engine::Engine>> open_module_engine(
    const std::vector<std::pair<std::string, const torch::nn::Module*>>& modules,
    const std::filesystem::path& folder, const ModuleEngineOptions& options) {
  const auto units = zero::units_of_modules(modules);
  engine::EngineOptions engine_options;
  Config& config = engine_options.config;
  config.zero.stage = 3;
  config.zero.offload_param.device = options.device;
  config.zero.offload_param.max_in_cpu = 0;
  config.zero.offload_optimizer.device = options.device;
  config.accumulation = options.accumulation;
  config.gradient_clipping = options.clipping;
  config.optimizer.lr = 0.01;
  config.optimizer.weight_decay = 0.1;
  Bytes largest;
  for (std::uint32_t u = 0; u < units.size(); ++u) {
    engine_options.units.push_back(units[u].info);
    if (options.bound_together.empty()) engine_options.bound_together.push_back({u});
  }
  if (!options.bound_together.empty()) engine_options.bound_together = options.bound_together;
  engine_options.folder = folder;
  engine_options.paths = {folder};
  engine_options.device_memory = Bytes(64u << 20);
  engine_options.host_memory = Bytes(32u << 20);
  engine_options.disk_space = Bytes(1u << 30);
  engine_options.steps = 100;
  engine_options.device_pool_units = 2;
  engine_options.opening = options.opening;
  if (options.failures) {
    engine_options.open_io =
        [plan = options.failures](const io::EngineOptions& io_options) -> Result<std::unique_ptr<io::Engine>> {
      STRATA_ASSIGN(auto inner, io::open_engine(io_options));
      return std::make_unique<FailingIo>(std::move(inner), plan);
    };
  }
  if (options.adjust) options.adjust(engine_options);
  STRATA_ASSIGN(auto opened, engine::Engine::open(std::move(engine_options)));
  if (options.opening == engine::Opening::kNew) {
    STRATA_TRY(opened->initialize(zero::values_of(units)));
  } else {
    STRATA_ASSIGN(const bool found, opened->restore());
    if (!found) return fail(ErrorCode::kStore, "nothing was committed");
  }
  for (std::uint32_t u = 0; u < units.size(); ++u) opened->runtime().adopt(UnitId(u), units[u].parameters);
  return opened;
}

/// The gradient that the sink holds for a parameter, after the backward of a step and before step().
inline at::Tensor gradient_of(engine::Engine& engine, std::uint32_t unit, const std::string& parameter) {
  EXPECT_TRUE(engine.runtime().enter());
  EXPECT_TRUE(engine.runtime().sink().finish());
  const auto& layout = engine.layouts()[unit];
  for (std::size_t s = 0; s < layout.sections.size(); ++s) {
    for (const auto& segment : layout.sections[s].segments) {
      if (segment.name != parameter) continue;
      auto lease = engine.tiers().read(*engine.objects().units[unit][s].gradient, Tier::kHost);
      EXPECT_TRUE(lease) << to_string(lease.error());
      return at::from_blob(const_cast<std::byte*>(lease->bytes().data()) + segment.offset * sizeof(float),
                           segment.shape, at::kFloat)
          .clone();
    }
  }
  ADD_FAILURE() << "no gradient for " << parameter;
  return {};
}

}  // namespace strata::testing
