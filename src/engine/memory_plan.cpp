#include "engine/memory_plan.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "base/size_text.hpp"
#include "tiers/state_store.hpp"

namespace strata::engine {
namespace {

using zero::Section;
using zero::Trainable;

constexpr std::uint64_t kPreferredSubGroup = 4u << 20;
constexpr std::uint64_t kSmallestSubGroup = 64u << 10;

constexpr Bytes kMiB(1u << 20);

Bytes in_blocks(Bytes bytes) { return round_up(bytes, kBlockAlignment); }

std::size_t index(Kind kind) { return static_cast<std::size_t>(kind); }
std::size_t index(Tier tier) { return static_cast<std::size_t>(tier); }

/// Parameters that are to live on the disk may stay in host memory up to max_in_cpu, if that leaves enough of it.
enum class HostParameters : std::uint8_t { kWhereTheyFit, kNone };

class Planner {
 public:
  Planner(const PlanInput& input, HostParameters host_parameters)
      : in_(input),
        host_parameters_(host_parameters),
        nearest_gradient_(input.mode == Mode::kInMemory ||
                                  input.config.zero.offload_optimizer.device == OffloadDevice::kNone
                              ? Tier::kDevice
                              : Tier::kHost) {
    plan_.tiers[index(Tier::kDevice)].budget = in_.device_memory;
    plan_.tiers[index(Tier::kHost)].budget = in_.host_memory;
    plan_.tiers[index(Tier::kDisk)].budget = in_.disk_space;
    plan_.slots = in_.config.strata.durable_steps ? 2 : 1;
    if (plan_.slots == 2 && in_.config.strata.commit_interval > 1) plan_.slots = 3;
  }

  MemoryPlan run() && {
    place_parameters_and_optimizer();
    if (nearest_gradient_ == Tier::kDevice) place_gradients();
    plan_device();
    if (nearest_gradient_ == Tier::kHost) place_gradients();
    plan_host_pool();
    plan_disk();
    return std::move(plan_);
  }

 private:
  TierPlan& tier(Tier t) { return plan_.tiers[index(t)]; }
  void count(Tier t, Kind kind, Bytes bytes) { tier(t).by_kind[index(kind)] += bytes; }

  template <class Visit>
  void for_each_section(Visit visit) {
    for (std::size_t u = 0; u < in_.layouts.size(); ++u) {
      for (std::size_t s = 0; s < in_.layouts[u].sections.size(); ++s) {
        visit(in_.layouts[u].sections[s], plan_.placements[u][s]);
      }
    }
  }

  void place_parameters_and_optimizer() {
    const auto& parameters = in_.config.zero.offload_param;
    const auto& optimizer = in_.config.zero.offload_optimizer;
    const bool in_memory = in_.mode == Mode::kInMemory;
    std::uint64_t sub_groups = 0;
    for (const auto& layout : in_.layouts) {
      for (const auto& section : layout.sections) sub_groups += section.sub_groups.size();
    }
    // `ratio` of the sub-groups goes to the offload tier; the first ones stay one tier nearer.
    const auto nearer = static_cast<std::uint64_t>(
        std::llround(static_cast<double>(sub_groups) * (1.0 - std::clamp(optimizer.ratio, 0.0, 1.0))));
    std::uint64_t seen = 0;
    std::uint64_t in_cpu = 0;
    Bytes host_parameters;
    for (const auto& layout : in_.layouts) {
      zero::UnitPlacement unit;
      for (const auto& section : layout.sections) {
        zero::SectionPlacement placement;
        placement.parameter = Tier::kDevice;
        if (!in_memory && parameters.device == OffloadDevice::kCpu) placement.parameter = Tier::kHost;
        if (!in_memory && parameters.device == OffloadDevice::kNvme) {
          placement.parameter = Tier::kDisk;
          const Bytes bytes = in_blocks(section.shard_bytes());
          // Host memory is first for rings and gradients: parameters that may stay get at most a quarter of it.
          const bool may_stay = host_parameters_ == HostParameters::kWhereTheyFit;
          if (may_stay && in_cpu + section.shard_elements <= parameters.max_in_cpu &&
              host_parameters + bytes <= in_.host_memory / 4) {
            placement.parameter = Tier::kHost;
            in_cpu += section.shard_elements;
            host_parameters += bytes;
          }
        }
        for (std::size_t k = 0; k < section.sub_groups.size(); ++k) {
          const bool stays = seen++ < nearer;
          Tier home = Tier::kDevice;
          if (!in_memory && optimizer.device == OffloadDevice::kCpu) home = stays ? Tier::kDevice : Tier::kHost;
          if (!in_memory && optimizer.device == OffloadDevice::kNvme) home = stays ? Tier::kHost : Tier::kDisk;
          placement.optimizer.push_back(home);
        }
        unit.push_back(std::move(placement));
      }
      plan_.placements.push_back(std::move(unit));
    }
    for_each_section([this](const Section& section, const zero::SectionPlacement& placement) {
      if (placement.parameter != Tier::kDisk) {
        count(placement.parameter, Kind::kParameter, in_blocks(section.shard_bytes()));
      }
      for (std::size_t k = 0; k < section.sub_groups.size(); ++k) {
        if (placement.optimizer[k] == Tier::kDisk) continue;
        count(placement.optimizer[k], Kind::kOptimizer, in_blocks(state_bytes(section, k)));
      }
    });
  }

  static Bytes state_bytes(const Section& section, std::size_t k) {
    return zero::state_arrays(section.dtype, section.sub_groups[k]).bytes();
  }

  [[nodiscard]] Bytes gradient_bytes(const Section& section) const {
    return in_blocks(bytes_of(zero::gradient_type_of(section, in_.gradient_type), section.shard_elements));
  }

  /// What the pool of the host tier must hold at once, when gradients are `spilled`.
  struct PoolNeed {
    Bytes least;
    Bytes wanted;
  };
  PoolNeed host_pool(bool gradients_spilled) {
    Bytes largest_state;
    Bytes largest_section;  // parameter and gradient that one section's step holds beside the ring
    Bytes largest_gradient;
    bool any = false;
    for_each_section([&](const Section& section, const zero::SectionPlacement& placement) {
      Bytes section_bytes;
      if (copied_to_host(placement.parameter)) {
        section_bytes += in_blocks(section.shard_bytes());
        any = true;
      }
      if (section.trainable == Trainable::kYes && (gradients_spilled || copied_to_host(nearest_gradient_))) {
        section_bytes += gradient_bytes(section);
        largest_gradient = std::max(largest_gradient, gradient_bytes(section));
        any = true;
      }
      largest_section = std::max(largest_section, section_bytes);
      for (std::size_t k = 0; k < section.sub_groups.size(); ++k) {
        if (!copied_to_host(placement.optimizer[k])) continue;
        largest_state = std::max(largest_state, in_blocks(state_bytes(section, k)));
        any = true;
      }
    });
    if (!any && spilled_input_.value == 0) return {};
    // In backward one accumulator is filled while the one before goes home.
    const Bytes least = std::max(largest_section + largest_state * 2, largest_gradient * 2);
    return {std::max(least, spilled_input_), largest_section * 3 + largest_state * 6 + spilled_input_ * 2};
  }

  /// The host computes on a copy of what is at home there.
  [[nodiscard]] bool copied_to_host(Tier home) const {
    return home == Tier::kDisk || (home == Tier::kDevice && in_.addressing == device::Addressing::kSeparate);
  }

  [[nodiscard]] Bytes all_gradients() {
    Bytes all;
    for_each_section([&](const Section& section, const zero::SectionPlacement&) {
      if (section.trainable == Trainable::kYes) all += gradient_bytes(section);
    });
    return all;
  }

  void place_gradients() {
    const Tier nearest = nearest_gradient_;
    const Bytes homes = tier(Tier::kHost).total();
    Bytes room;
    bool spill = false;
    if (nearest == Tier::kHost) {
      const Bytes kept = homes + all_gradients() + host_pool(false).least;
      spill = kept > in_.host_memory && homes + host_pool(true).least < kept;
      const Bytes pool = host_pool(spill).least;
      if (in_.host_memory > homes + pool) room = in_.host_memory - homes - pool;
    }
    Bytes placed;
    for_each_section([&](const Section& section, zero::SectionPlacement& placement) {
      if (section.trainable == Trainable::kNo) return;
      const Bytes bytes = gradient_bytes(section);
      placement.gradient = nearest;
      if (spill && placed + bytes > room) {
        placement.gradient = Tier::kDisk;
        add_scratch(bytes, 1);
        spilled_ = true;
        return;
      }
      placed += bytes;
      count(nearest, Kind::kGradient, bytes);
    });
  }

  void add_scratch(Bytes piece, std::uint64_t count) {
    plan_.scratch += piece * count;
    plan_.largest_scratch = std::max(plan_.largest_scratch, piece);
  }

  void plan_host_pool() {
    const PoolNeed need = host_pool(spilled_);
    const Bytes homes = tier(Tier::kHost).total();
    Bytes pool = need.least;
    if (in_.host_memory > homes + pool) pool = std::min(need.wanted, in_.host_memory - homes);
    pool = std::max(pool, need.least);
    if (pool.value > 0) count(Tier::kHost, Kind::kStaging, pool);
    plan_.host_budget = tier(Tier::kHost).total();
    if (plan_.host_budget > in_.host_memory) {
      misfit(Tier::kHost, plan_.host_budget,
             in_.config.zero.offload_optimizer.device == OffloadDevice::kCpu
                 ? "zero_optimization.offload_optimizer.device \"nvme\""
                 : "");
    }
  }

  /// What a stage needs while it runs backward, its parameters' gradients included: autograd holds them until the sink
  /// takes them, and with recompute all of a stage's at once.
  [[nodiscard]] Bytes inside_a_stage() const {
    const ActivationNeed& need = in_.activations;
    const Bytes own = in_.recompute == Recompute::kPerUnit ? need.stage_internal : Bytes(0);
    Bytes most = need.last_stage;
    for (std::size_t stage = 0; stage < in_.bound_together.size(); ++stage) {
      Bytes gradients;
      for (const std::uint32_t unit : in_.bound_together[stage]) {
        for (const Section& section : in_.layouts[unit].sections) {
          if (section.trainable == Trainable::kYes) gradients += section.bytes();
        }
      }
      const bool last = stage + 1 == in_.bound_together.size();
      most = std::max(most, gradients + (last ? need.last_stage : own));
    }
    return most;
  }

  void plan_device() {
    const Bytes homes = tier(Tier::kDevice).total();
    auto copied = [&](const zero::SectionPlacement& placement) {
      return placement.parameter == Tier::kDisk ||
             (placement.parameter == Tier::kHost && in_.addressing == device::Addressing::kSeparate);
    };
    Bytes all_copies;
    for_each_section([&](const Section& section, const zero::SectionPlacement& placement) {
      if (copied(placement)) all_copies += in_blocks(section.bytes());
    });
    Bytes least;
    for (const auto& units : in_.bound_together) {
      Bytes together;
      for (const std::uint32_t u : units) {
        for (std::size_t s = 0; s < in_.layouts[u].sections.size(); ++s) {
          if (copied(plan_.placements[u][s])) together += in_blocks(in_.layouts[u].sections[s].bytes());
        }
      }
      least = std::max(least, together);
    }
    const ActivationNeed& need = in_.activations;
    const bool recompute = in_.recompute == Recompute::kPerUnit;
    const Bytes kept = (recompute ? need.checkpoint_per_stage : need.stage_internal) * need.stages;
    const Bytes inside = inside_a_stage();
    Bytes activations = kept + inside;
    const Bytes with_spills = need.checkpoint_per_stage * 3 + inside;
    if (homes + least + activations > in_.device_memory && recompute && in_.mode == Mode::kOffloaded &&
        with_spills < activations) {
      spill_checkpoints();
      activations = with_spills;
    }
    const Bytes least_total = homes + least + activations;
    if (least_total > in_.device_memory) {
      misfit(Tier::kDevice, least_total,
             recompute ? "a smaller --micro-batch or --sequence" : "--recompute unit");
    }
    const Bytes left = in_.device_memory > least_total ? in_.device_memory - least_total : Bytes(0);
    const Bytes wished = in_.device_pool_units == 0 ? least + left / 2 : least * in_.device_pool_units;
    const Bytes pool = std::min({all_copies, wished, least + left});
    plan_.device_pool = homes + pool;
    if (pool.value > 0) count(Tier::kDevice, Kind::kGathered, pool);
    plan_.activation_budget =
        in_.device_memory > plan_.device_pool ? in_.device_memory - plan_.device_pool : Bytes(0);
    count(Tier::kDevice, Kind::kActivation, activations);
  }

  void spill_checkpoints() {
    const Bytes one = in_blocks(in_.activations.checkpoint_per_stage);
    const Bytes all = one * in_.activations.stages;
    const Bytes gradients = nearest_gradient_ == Tier::kHost ? all_gradients() : Bytes(0);
    if (tier(Tier::kHost).total() + gradients + host_pool(false).least + all <= in_.host_memory) {
      plan_.checkpoints = ActivationHome::kHost;
      count(Tier::kHost, Kind::kActivation, all);
    } else {
      plan_.checkpoints = ActivationHome::kDisk;
      add_scratch(one, in_.activations.stages);
      spilled_input_ = one;
    }
  }

  void plan_disk() {
    std::vector<tiers::StoreObject> stored;
    Bytes snapshots;
    Bytes first_write;  // initialisation
    for_each_section([&](const Section& section, const zero::SectionPlacement& placement) {
      stored.push_back({"", section.shard_bytes()});
      count(Tier::kDisk, Kind::kParameter, in_blocks(section.shard_bytes()) * plan_.slots);
      const bool trained = section.trainable == Trainable::kYes;
      if (placement.parameter == Tier::kDisk) first_write += in_blocks(section.shard_bytes());
      if (trained) {
        (placement.parameter == Tier::kDisk ? plan_.written_per_step : snapshots) += in_blocks(section.shard_bytes());
      }
      for (std::size_t k = 0; k < section.sub_groups.size(); ++k) {
        const Bytes bytes = in_blocks(state_bytes(section, k));
        stored.push_back({"", bytes});
        count(Tier::kDisk, Kind::kOptimizer, bytes * plan_.slots);
        (placement.optimizer[k] == Tier::kDisk ? plan_.written_per_step : snapshots) += bytes;
        if (placement.optimizer[k] == Tier::kDisk) first_write += bytes;
      }
      if (trained && placement.gradient == Tier::kDisk) {
        count(Tier::kDisk, Kind::kGradient, gradient_bytes(section));
        plan_.written_per_step += gradient_bytes(section) * in_.config.accumulation;
      }
    });
    if (plan_.checkpoints == ActivationHome::kDisk) {
      const Bytes bytes = in_blocks(in_.activations.checkpoint_per_stage) * in_.activations.stages;
      count(Tier::kDisk, Kind::kActivation, bytes);
      plan_.written_per_step += bytes * in_.config.accumulation;
    }
    const Bytes footprint = tiers::StateStore::footprint(stored, plan_.slots, plan_.scratch,
                                                         {.paths = in_.paths, .largest = plan_.largest_scratch});
    const Bytes counted = tier(Tier::kDisk).total();
    if (footprint > counted) count(Tier::kDisk, Kind::kOther, footprint - counted);
    const std::uint64_t interval = std::max<std::uint64_t>(1, in_.config.strata.commit_interval);
    const std::uint64_t commits =
        in_.mode == Mode::kInMemory ? 1 : in_.steps / interval + (in_.steps % interval != 0 ? 1 : 0);
    plan_.written_total = first_write + plan_.written_per_step * in_.steps + snapshots * commits;
    if (footprint > in_.disk_space) {
      misfit(Tier::kDisk, footprint, plan_.slots > 1 ? "strata.durable_steps false (half the space)" : "");
    }
  }

  void misfit(Tier t, Bytes needed, std::string other_remedy) {
    if (!plan_.misfit) plan_.misfit = MemoryPlan::Misfit{t, needed, std::move(other_remedy)};
  }

  const PlanInput& in_;
  const HostParameters host_parameters_;
  const Tier nearest_gradient_;
  MemoryPlan plan_;
  bool spilled_ = false;
  Bytes spilled_input_;  ///< of a stage, when it waits on the disk
};

}  // namespace

Bytes TierPlan::total() const { return std::accumulate(by_kind.begin(), by_kind.end(), Bytes(0)); }

MemoryPlan plan_memory(const PlanInput& input) {
  MemoryPlan plan = Planner(input, HostParameters::kWhereTheyFit).run();
  if (!plan.misfit || plan.misfit->tier != Tier::kHost) return plan;
  return Planner(input, HostParameters::kNone).run();
}

std::string budget_flags(const Budgets& from, const Budgets& to) {
  constexpr const char* kFlags[] = {"--device-memory", "--host-memory", "--disk-space"};
  std::string text;
  for (std::size_t t = 0; t < kTierCount; ++t) {
    if (from[t] == to[t]) continue;
    text += fmt::format("{}{} {}MiB", text.empty() ? "" : " and ", kFlags[t], round_up(to[t], kMiB).value / kMiB.value);
  }
  return text;
}

std::uint64_t choose_sub_group(const Config& config, Bytes host_memory) {
  // A ring of six sub-groups of 12 bytes per element within a third of the host budget.
  const std::uint64_t by_memory = host_memory.value / 3 / 6 / 12;
  const std::uint64_t wished = std::min(config.zero.sub_group_size, kPreferredSubGroup);
  return round_down(std::clamp(std::min(by_memory, wished), kSmallestSubGroup, kPreferredSubGroup), 4096);
}

Error misfit_error(const MemoryPlan& plan) {
  const auto& misfit = *plan.misfit;
  return {ErrorCode::kDoesNotFit, 0,
          fmt::format("does not fit: the {} tier needs {} and has a budget of {}", name_of(misfit.tier),
                      format_size(misfit.needed), format_size(plan.tiers[index(misfit.tier)].budget)),
          "give " + misfit.remedy};
}

std::string format_plan(const MemoryPlan& plan) {
  std::string text = fmt::format("{:<8} {:>11} {:>11}   {}\n", "memory", "needed", "budget", "by kind");
  for (std::size_t t = 0; t < kTierCount; ++t) {
    const TierPlan& tier = plan.tiers[t];
    std::string kinds;
    for (std::size_t k = 0; k < kKindCount; ++k) {
      if (tier.by_kind[k].value == 0) continue;
      kinds += fmt::format("{}{} {}", kinds.empty() ? "" : ", ", name_of(static_cast<Kind>(k)),
                           format_size(tier.by_kind[k]));
    }
    text += fmt::format("{:<8} {:>11} {:>11}   {}\n", name_of(static_cast<Tier>(t)), format_size(tier.total()),
                        format_size(tier.budget), kinds.empty() ? "nothing" : kinds);
  }
  text += fmt::format("the run will write {} to disk ({} per step)", format_size(plan.written_total),
                      format_size(plan.written_per_step));
  return text;
}

}  // namespace strata::engine
