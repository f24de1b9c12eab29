// Reading and first writing of the whole state, one sub-group at a time, within the memory budget. No torch.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "formats/state_digest.hpp"
#include "optim/cpu_optimizer.hpp"
#include "tiers/tier_manager.hpp"
#include "zero/segment_table.hpp"
#include "zero/state_objects.hpp"

namespace strata::zero {

/// Fills elements [first, first + out.size()) of a parameter, in float32.
using ElementSource =
    std::function<Status(const Segment& segment, std::uint64_t first, std::span<float> out)>;

/// Writes master, zero moments and the 16-bit copy of every element of unit `unit`. Only this rank's shard is touched.
[[nodiscard]] Status initialize_unit(std::uint32_t unit, std::span<const UnitLayout> layouts,
                                     const StateObjects& objects, tiers::TierManager& tiers,
                                     optim::CpuOptimizer& optimizer, std::uint32_t rank, const ElementSource& source);

/// Where a trainable parameter lives.
struct ParameterPlace {
  std::string name;
  std::vector<std::int64_t> shape;
  std::uint64_t numel = 0;
  std::uint32_t unit = 0;
  std::uint32_t section = 0;
  std::uint32_t segment = 0;
};

/// Every trainable parameter, in bytewise order of its name.
[[nodiscard]] std::vector<ParameterPlace> trainable_parameters(std::span<const UnitLayout> layouts);

/// Hands the float32 elements of one kind of state of one parameter to `sink`, in order, in pieces. One rank only.
[[nodiscard]] Status read_state(const ParameterPlace& place, formats::StateKind kind,
                                std::span<const UnitLayout> layouts, const StateObjects& objects,
                                tiers::TierManager& tiers, const std::function<Status(std::span<const float>)>& sink);

}  // namespace strata::zero
