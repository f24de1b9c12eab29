// Where every byte of a run will live, and whether it fits, before the first step. Pure; no torch.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "device/device.hpp"
#include "strata/config.hpp"
#include "strata/types.hpp"
#include "zero/segment_table.hpp"
#include "zero/state_objects.hpp"

namespace strata::engine {

enum class Mode : std::uint8_t { kOffloaded, kInMemory };
enum class Recompute : std::uint8_t { kNone, kPerUnit };

/// What the model says of its activations for one micro-batch (upper estimates).
struct ActivationNeed {
  Bytes checkpoint_per_stage;  ///< a stage's input, kept until its backward
  Bytes stage_internal;        ///< inside the largest stage while it runs with gradients
  Bytes last_stage;            ///< logits and loss
  std::uint32_t stages = 0;
};

struct PlanInput {
  std::span<const zero::UnitLayout> layouts;
  std::vector<std::vector<std::uint32_t>> bound_together;  ///< sets of units that one stage needs at the same time
  Config config;
  Mode mode = Mode::kOffloaded;
  Recompute recompute = Recompute::kPerUnit;
  device::Addressing addressing = device::Addressing::kShared;
  DType gradient_type = DType::kFloat32;
  ActivationNeed activations;
  Bytes device_memory;
  Bytes host_memory;
  Bytes disk_space;
  std::size_t paths = 1;     ///< how many the disk tier is spread over
  std::uint64_t steps = 0;
  std::uint32_t device_pool_units = 0;  ///< copies on the device: room for this many of the largest sets; 0: what fits
};

struct TierPlan {
  Bytes budget;
  std::array<Bytes, kKindCount> by_kind{};
  [[nodiscard]] Bytes total() const;
};

enum class ActivationHome : std::uint8_t { kDevice, kHost, kDisk };

struct MemoryPlan {
  std::array<TierPlan, kTierCount> tiers;
  std::vector<zero::UnitPlacement> placements;
  ActivationHome checkpoints = ActivationHome::kDevice;  ///< where stage inputs wait for backward
  Bytes device_pool;         ///< of the tier manager: homes and copies
  Bytes activation_budget;   ///< the rest of the device budget
  Bytes host_budget;         ///< the tier manager's host arena: homes, copies, staging; at most the host budget
  Bytes scratch;
  Bytes largest_scratch;     ///< the largest single piece of it
  std::uint32_t slots = 2;
  Bytes written_per_step;    ///< to disk
  Bytes written_total;
  struct Misfit {
    Tier tier = Tier::kDevice;  ///< the first that is too small
    Bytes needed;
    std::string remedy;  ///< what would help besides a larger budget; Engine::plan puts the smallest one before it
  };
  std::optional<Misfit> misfit;
};

/// Deterministic. Gradients and stage inputs spill only when they must.
[[nodiscard]] MemoryPlan plan_memory(const PlanInput& input);

using Budgets = std::array<Bytes, kTierCount>;
/// Flags for the budgets that differ, each a whole number of MiB: "--device-memory 5MiB and --host-memory 2MiB".
[[nodiscard]] std::string budget_flags(const Budgets& from, const Budgets& to);

/// Elements per sub-group: at most `sub_group_size`, and small enough that a ring of them fits the host budget.
[[nodiscard]] std::uint64_t choose_sub_group(const Config& config, Bytes host_memory);

/// The error that a plan with a misfit is, one line.
[[nodiscard]] Error misfit_error(const MemoryPlan& plan);
/// A table for people: bytes by tier and kind, budgets, and what the run will write.
[[nodiscard]] std::string format_plan(const MemoryPlan& plan);

}  // namespace strata::engine
