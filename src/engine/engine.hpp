// Owns every pool of a run and wires the layers: device, I/O, store, tiers, optimizer, units. One rank per process.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "engine/memory_plan.hpp"
#include "engine/run_folder.hpp"
#include "kernels/kernels.hpp"
#include "optim/lr_schedule.hpp"
#include "strata/config.hpp"
#include "zero/activation_allocator.hpp"
#include "zero/gradient_sink.hpp"
#include "zero/optimizer_step.hpp"
#include "zero/state_access.hpp"
#include "zero/storage_observer.hpp"
#include "zero/unit_call.hpp"
#include "zero/unit_runtime.hpp"

namespace strata::engine {

enum class Opening : std::uint8_t { kNew, kResume };

struct EngineOptions {
  Config config;
  std::vector<zero::UnitInfo> units;
  std::vector<std::vector<std::uint32_t>> bound_together;
  ActivationNeed activations;
  std::uint32_t recomputed_stages = 0;  ///< how many stage inputs may have to spill
  Mode mode = Mode::kOffloaded;
  Recompute recompute = Recompute::kPerUnit;
  device::Addressing addressing = device::Addressing::kShared;
  Opening opening = Opening::kNew;
  std::filesystem::path folder;  ///< the run
  std::vector<std::filesystem::path> paths;
  std::vector<std::pair<std::string, std::string>> settings;  ///< recorded in run.json
  Bytes device_memory;
  Bytes host_memory;
  Bytes disk_space;
  std::uint64_t steps = 0;  ///< total, for the plan
  std::uint32_t optimizer_threads = 0;
  std::optional<kernels::Isa> isa;
  std::size_t lookahead_units = 2;
  std::uint32_t device_pool_units = 0;  ///< see PlanInput
  std::function<void(std::string_view)> report;  ///< notices, one line each; may be empty
  /// Opens the disk's engine; empty: io::open_engine. Tests put a faulty one here.
  std::function<Result<std::unique_ptr<io::Engine>>(const io::EngineOptions&)> open_io;
};

struct StepReport {
  std::uint64_t step = 0;
  std::uint64_t applied_steps = 0;
  double lr = 0;         ///< as used
  double grad_norm = 0;  ///< after averaging, before clipping
  double clip_factor = 1;
  bool skipped = false;
  std::string skip_reason;
  double optimizer_compute_s = 0;
};

/// What the caller keeps beside the state: where it is in the data. Part of every commit.
struct Progress {
  std::uint64_t step = 0;
  std::uint64_t applied_steps = 0;
  std::uint64_t samples = 0;
};

/// One thread drives it. On an error from step() or from computing, call abort_step(); the next step is exact. Where it
/// can't be (a commit failed, or the optimizer failed half-way and no generation holds the state before it), that error
/// comes back from every later call, and nothing is committed any more: the run resumes from its last commit.
class Engine {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Engine>> open(EngineOptions options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// The plan that open() would follow; kDoesNotFit is in the plan, not an error.
  [[nodiscard]] static Result<MemoryPlan> plan(const EngineOptions& options);
  [[nodiscard]] const MemoryPlan& plan() const { return plan_; }

  /// A new run: fills every unit, in order, straight into its tier.
  [[nodiscard]] Status initialize(const zero::ElementSource& source);
  /// A resumed run: true when a committed step was found; memory-homed state is loaded from it.
  [[nodiscard]] Result<bool> restore();

  void begin_step();
  void begin_micro_batch(zero::MicroBatchPosition position);
  /// Calls `compute`, which runs units through runtime(); exceptions of LibTorch and of the engine become errors.
  [[nodiscard]] Status compute(const std::function<void()>& compute);
  /// Norm, clip, optimizer, schedule, commit. `samples` were consumed by the step. `before_commit` is told of the step
  /// before it can become durable, so that what it records is there after any crash; its error ends the run.
  [[nodiscard]] Result<StepReport> step(std::uint64_t samples,
                                        const std::function<Status(const StepReport&)>& before_commit = {});
  void abort_step();

  /// Commits what is not durable yet and waits for it.
  [[nodiscard]] Status save();
  /// The digest over every trainable parameter's state.
  [[nodiscard]] Result<std::string> state_digest();
  [[nodiscard]] std::string resume_metadata() const;

  [[nodiscard]] zero::UnitRuntime& runtime() { return *runtime_; }
  [[nodiscard]] tiers::TierManager& tiers() { return *tiers_; }
  [[nodiscard]] std::span<const zero::UnitLayout> layouts() const { return layouts_; }
  [[nodiscard]] const zero::StateObjects& objects() const { return objects_; }
  [[nodiscard]] const Progress& progress() const { return progress_; }
  [[nodiscard]] tiers::CommitRecord durable() const;
  [[nodiscard]] std::optional<ObjectId> spill_slot(std::uint32_t stage) const;
  [[nodiscard]] const RunRecord& record() const { return record_; }
  [[nodiscard]] std::string io_description() const;
  [[nodiscard]] kernels::Isa isa() const { return optimizer_->isa(); }
  /// High-water marks since the last call.
  [[nodiscard]] std::array<Bytes, kTierCount> take_peaks();
  [[nodiscard]] double commit_wait_s() const { return commit_wait_s_; }

 private:
  Engine() = default;

  [[nodiscard]] Status open_devices();
  void describe_objects();
  [[nodiscard]] Status open_store();
  [[nodiscard]] Status make_store();
  [[nodiscard]] Status open_runtime();
  /// The error that ended the run, if one did.
  [[nodiscard]] Status usable() const;
  [[nodiscard]] tl::unexpected<Error> end_run(Error cause, std::string_view what);
  /// What to report of an error in a step: bytes that could not be written fail their reader before the commit says so.
  [[nodiscard]] tl::unexpected<Error> cause_of(Error error);
  /// After an optimizer step that failed half-way: the state before it, or the end of the run.
  [[nodiscard]] tl::unexpected<Error> undo_step(Error cause);
  [[nodiscard]] Status restore_durable();
  [[nodiscard]] Status start_commit();
  [[nodiscard]] Status wait_commit();
  [[nodiscard]] Status snapshot_memory_homes();
  [[nodiscard]] bool commit_is_due() const;
  [[nodiscard]] double current_lr() const;

  // Fixed after open, destroyed in reverse order: units before tiers before store before I/O.
  EngineOptions options_;
  MemoryPlan plan_;
  Fd run_lock_;
  RunRecord record_;
  std::vector<zero::UnitLayout> layouts_;
  zero::StateObjects objects_;
  std::vector<ObjectId> spill_slots_;
  std::vector<ObjectId> memory_homes_;  ///< of stored objects: what a commit snapshots
  std::vector<bool> constant_;          ///< by ObjectId: a frozen parameter, which is snapshotted once
  std::unique_ptr<io::Engine> io_;
  std::unique_ptr<device::Device> device_;
  std::unique_ptr<zero::ActivationAllocator> activations_;
  std::unique_ptr<tiers::StateStore> store_;
  std::unique_ptr<tiers::TierManager> tiers_;
  std::unique_ptr<optim::CpuOptimizer> optimizer_;
  std::unique_ptr<zero::Collectives> collectives_;
  std::unique_ptr<zero::GradientSink> sink_;
  std::unique_ptr<zero::OptimizerStep> optimizer_step_;
  std::unique_ptr<zero::UnitRuntime> runtime_;
  std::unique_ptr<zero::StorageObserver> observer_;

  Progress progress_;
  std::optional<Error> ended_by_;
  std::future<Status> commit_;
  double commit_wait_s_ = 0;
};

}  // namespace strata::engine
