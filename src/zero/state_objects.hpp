// The objects that a sharded model keeps in tiers: parameter shards, gradient shards, optimizer state of sub-groups.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "strata/types.hpp"
#include "tiers/state_store.hpp"
#include "tiers/tier_manager.hpp"
#include "zero/segment_table.hpp"

namespace strata::zero {

/// Where the bytes of one section are at home.
struct SectionPlacement {
  Tier parameter = Tier::kHost;
  Tier gradient = Tier::kHost;
  std::vector<Tier> optimizer;  ///< per sub-group
};
using UnitPlacement = std::vector<SectionPlacement>;

/// Ids in the tier manager.
struct SectionObjects {
  ObjectId parameter;
  std::optional<ObjectId> gathered;       ///< the whole section on the device; only with more than one rank
  std::optional<ObjectId> gradient;       ///< this rank's accumulator; trainable sections only
  std::optional<ObjectId> full_gradient;  ///< what a reduction starts from; only with more than one rank
  std::vector<ObjectId> optimizer;        ///< per sub-group
};
using UnitObjects = std::vector<SectionObjects>;

struct StateObjects {
  std::vector<tiers::ObjectSpec> specs;
  std::vector<tiers::StoreObject> stored;  ///< in the order of their StoreId
  std::vector<UnitObjects> units;
  DType gradient_type = DType::kFloat32;
};

/// A reader of a finished run needs no gradients.
enum class GradientObjects : std::uint8_t { kLeaveOut, kMake };

struct StateObjectsOptions {
  GradientObjects gradients = GradientObjects::kMake;
  std::uint32_t world_size = 1;
  /// The accumulator's type where a parameter is 16-bit; fp32 parameters always accumulate in fp32.
  DType gradient_type = DType::kFloat32;
};

/// Everything but gradients is backed by the state store: at home on disk, or snapshotted into it.
[[nodiscard]] StateObjects make_state_objects(std::span<const UnitLayout> layouts,
                                              std::span<const UnitPlacement> placements,
                                              const StateObjectsOptions& options);

[[nodiscard]] DType gradient_type_of(const Section& section, DType wished);

}  // namespace strata::zero
