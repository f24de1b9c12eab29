// Short training runs of tiny models, for parity tests.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/trainer.hpp"

namespace strata::testing {

/// Where things live in a run; the result must not depend on it.
enum class Placement { kInMemory, kHost, kDisk, kSplit, kTwoUnitArena };
inline constexpr Placement kPlacements[] = {Placement::kInMemory, Placement::kHost, Placement::kDisk, Placement::kSplit,
                                            Placement::kTwoUnitArena};

inline std::string name_of(Placement placement) {
  constexpr const char* names[] = {"in memory", "host", "disk", "host+disk split", "device arena of two units"};
  return names[static_cast<int>(placement)];
}

struct Case {
  std::string model = "gpt2-tiny";
  Precision precision = Precision::kBf16;
  std::uint64_t accumulation = 1;
  engine::Recompute recompute = engine::Recompute::kPerUnit;
  std::uint32_t threads = 1;
  std::uint64_t steps = 20;
  double clipping = 0.5;  ///< low enough to be at work
  double lr = 1e-3;

  [[nodiscard]] std::string name() const {
    return model + (precision == Precision::kBf16 ? " bf16" : " fp32") + " accumulation " +
           std::to_string(accumulation) + (recompute == engine::Recompute::kPerUnit ? " recompute" : " keep") +
           " threads " + std::to_string(threads);
  }
};

struct Outcome {
  std::vector<double> losses;
  std::string digest;
  std::vector<double> clip_factors;
};

/// About 60 KB of text that has structure to learn.
inline std::filesystem::path write_text(const std::filesystem::path& folder) {
  const auto file = folder / "text.txt";
  if (!std::filesystem::exists(file)) {
    std::ofstream out(file);
    for (int i = 0; i < 1500; ++i) out << "the " << i * 7919 % 101 << " quick brown foxes jump over lazy dogs.\n";
  }
  return file;
}

inline engine::TrainOptions train_options(const Case& test, Placement placement, const std::filesystem::path& folder,
                                          const std::string& run) {
  engine::TrainOptions options;
  Config& config = options.config;
  config.precision = test.precision;
  config.micro_batch = 2;
  config.accumulation = test.accumulation;
  config.train_batch_size = 2 * test.accumulation;
  config.gradient_clipping = test.clipping;
  config.optimizer.lr = test.lr;
  config.optimizer.weight_decay = 0.01;
  config.zero.stage = 3;
  config.zero.sub_group_size = 40'000;  // several per unit
  config.aio.block_size = Bytes(64u << 10);
  config.zero.offload_param.max_in_cpu = 0;
  auto& parameters = config.zero.offload_param.device;
  auto& optimizer = config.zero.offload_optimizer.device;
  switch (placement) {
    case Placement::kInMemory: options.mode = engine::Mode::kInMemory; break;
    case Placement::kHost: parameters = optimizer = OffloadDevice::kCpu; break;
    case Placement::kDisk: parameters = optimizer = OffloadDevice::kNvme; break;
    case Placement::kSplit:
      parameters = optimizer = OffloadDevice::kNvme;
      config.zero.offload_param.max_in_cpu = 100'000;
      config.zero.offload_optimizer.ratio = 0.5;
      break;
    case Placement::kTwoUnitArena:
      parameters = optimizer = OffloadDevice::kNvme;
      options.addressing = device::Addressing::kSeparate;
      options.device_pool_units = 2;
      break;
  }
  options.model = std::filesystem::path(STRATA_SOURCE_DIR) / "configs/models" / (test.model + ".json");
  options.data = {write_text(folder)};
  options.steps = test.steps;
  options.sequence = 32;
  options.seed = 3;
  options.out = folder / run;
  options.paths = {folder / run};
  options.device_memory = Bytes(256u << 20);
  options.host_memory = Bytes(64u << 20);
  options.disk_space = Bytes(4ull << 30);
  options.recompute = test.recompute;
  options.optimizer_threads = test.threads;
  return options;
}

inline Outcome train(const Case& test, engine::TrainOptions options) {
  Outcome outcome;
  options.on_step = [&outcome](const engine::StepRecord& record) {
    outcome.losses.push_back(record.loss);
    outcome.clip_factors.push_back(record.clip_factor);
  };
  auto trainer = engine::Trainer::open(std::move(options));
  EXPECT_TRUE(trainer) << test.name() << ": " << (trainer ? "" : to_string(trainer.error()));
  if (!trainer) return outcome;
  const auto summary = (*trainer)->run();
  EXPECT_TRUE(summary) << test.name() << ": " << (summary ? "" : to_string(summary.error()));
  if (summary) outcome.digest = summary->state_digest;
  return outcome;
}

}  // namespace strata::testing
