// The training loop of `strata train`: a model, byte data, an engine, and what a person and a program see of it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "engine/engine.hpp"
#include "engine/metrics.hpp"
#include "model/byte_dataset.hpp"
#include "model/model.hpp"

namespace strata::engine {

/// Whether a run may go on although the data or the model's config.json have changed since it began.
enum class ChangedInputs : std::uint8_t { kRefuse, kAllow };

struct TrainOptions {
  Config config;
  std::filesystem::path model;  ///< Hugging Face config.json or its folder
  std::vector<std::filesystem::path> data;
  std::uint64_t steps = 100;
  std::int64_t sequence = 256;
  std::uint64_t seed = 42;
  std::filesystem::path out;
  std::vector<std::filesystem::path> paths;
  Bytes device_memory;
  Bytes host_memory;
  Bytes disk_space;
  std::optional<std::filesystem::path> metrics;
  Mode mode = Mode::kOffloaded;
  Recompute recompute = Recompute::kPerUnit;
  Opening opening = Opening::kNew;
  ChangedInputs changed_inputs = ChangedInputs::kRefuse;
  device::Addressing addressing = device::Addressing::kShared;
  std::uint32_t optimizer_threads = 0;
  std::optional<kernels::Isa> isa;
  std::uint32_t device_pool_units = 0;  ///< see PlanInput
  std::vector<std::pair<std::string, std::string>> settings;
  std::function<void(std::string_view)> report;            ///< one line each: notices, the plan
  std::function<void(const StepRecord&)> on_step;          ///< progress
  const std::atomic<bool>* stop = nullptr;                 ///< asks for an end after the current step
};

struct TrainSummary {
  std::uint64_t parameters = 0;
  Bytes state;  ///< master weights, moments and 16-bit copies
  std::uint64_t first_step = 0;
  std::uint64_t last_step = 0;
  double first_loss = 0;
  double last_loss = 0;
  double tokens_per_s = 0;  ///< over all but the first step
  double wall_s = 0;
  double unigram_entropy = 0;
  std::array<Bytes, kTierCount> budget{};
  std::array<Bytes, kTierCount> peak{};
  std::uint64_t disk_read_bytes = 0;
  std::uint64_t disk_written_bytes = 0;
  std::string state_digest;
  EndReason reason = EndReason::kDone;
};

class Trainer {
 public:
  /// Loads the model's shape and the data, plans, reports the plan, and refuses what does not fit before anything is
  /// written.
  [[nodiscard]] static Result<std::unique_ptr<Trainer>> open(TrainOptions options);

  /// Runs to options.steps in total, or until `stop`; state is saved in both cases. With no step left to do it does
  /// none, and first_step is last_step + 1. On an error the last commit stays.
  [[nodiscard]] Result<TrainSummary> run();

  [[nodiscard]] Engine& engine() { return *engine_; }
  /// Loss and gradients of one micro-batch under the engine; used by run() and by tests.
  [[nodiscard]] Result<double> micro_batch(std::uint64_t step, std::uint64_t index);

  /// One step of run(), for benchmarks.
  [[nodiscard]] Result<StepRecord> train_step();

 private:
  Trainer() = default;
  [[nodiscard]] EngineOptions engine_options() const;
  [[nodiscard]] Status start();
  [[nodiscard]] MetricsHeader header(std::uint64_t resumed_from) const;
  /// Counters at a moment; a step is what lies between two of them.
  struct Mark {
    std::chrono::steady_clock::time_point time;
    tiers::TierStats tiers;
    double commit_wait_s = 0;
  };
  [[nodiscard]] Mark mark() const;
  void complete(StepRecord& record, const StepReport& report);
  void fill_lanes(StepRecord& record, const Mark& begin, const Mark& end) const;
  [[nodiscard]] Status check_unchanged();
  void report_buffered_paths() const;

  TrainOptions options_;
  std::unique_ptr<model::Model> model_;
  std::optional<model::ByteDataset> data_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<MetricsWriter> metrics_;
  std::vector<std::vector<zero::UnitUse>> stage_uses_;  ///< per stage
  std::vector<std::uint32_t> recompute_index_;          ///< per stage: which of the recomputed ones it is
  Mark last_;  ///< the end of the step before
  Bytes resident_baseline_;
};

}  // namespace strata::engine
