// The digest of a run's state (docs/formats.md, "Digests") and its export. No torch.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "tiers/tier_manager.hpp"
#include "zero/segment_table.hpp"
#include "zero/state_objects.hpp"

namespace strata::engine {

struct TensorDigest {
  std::string name;  ///< "<parameter>.<kind>"
  std::string digest;
};

/// 32 hex digits; `per_tensor`, when given, gets one entry per parameter and kind.
[[nodiscard]] Result<std::string> digest_state(std::span<const zero::UnitLayout> layouts,
                                               const zero::StateObjects& objects, tiers::TierManager& tiers,
                                               std::uint64_t applied_steps,
                                               std::vector<TensorDigest>* per_tensor = nullptr);

/// XXH3-128 of the committed metadata's canonical JSON.
[[nodiscard]] std::string digest_metadata(const std::string& canonical_json);

/// Writes `<name>.<kind>` tensors in float32 to one safetensors file, streaming.
[[nodiscard]] Status export_state(const std::filesystem::path& file, std::span<const zero::UnitLayout> layouts,
                                  const zero::StateObjects& objects, tiers::TierManager& tiers,
                                  std::uint64_t applied_steps);

}  // namespace strata::engine
