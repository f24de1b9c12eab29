#include "engine/state_digest.hpp"

#include <array>

#include <fmt/format.h>

#include "formats/safetensors.hpp"
#include "formats/state_digest.hpp"
#include "zero/state_access.hpp"

namespace strata::engine {
namespace {

constexpr std::array kKinds = {formats::StateKind::kMaster, formats::StateKind::kExpAvg, formats::StateKind::kExpAvgSq};

}  // namespace

Result<std::string> digest_state(std::span<const zero::UnitLayout> layouts, const zero::StateObjects& objects,
                                 tiers::TierManager& tiers, std::uint64_t applied_steps,
                                 std::vector<TensorDigest>* per_tensor) {
  formats::StateDigest digest;
  for (const zero::ParameterPlace& place : zero::trainable_parameters(layouts)) {
    for (const formats::StateKind kind : kKinds) {
      digest.begin({place.name, kind, DType::kFloat32, place.numel, applied_steps});
      STRATA_TRY(zero::read_state(place, kind, layouts, objects, tiers, [&](std::span<const float> elements) -> Status {
        digest.update(std::as_bytes(elements));
        return {};
      }));
      const formats::Hash128 hash = digest.end();
      if (per_tensor != nullptr) {
        per_tensor->push_back({fmt::format("{}.{}", place.name, formats::name_of(kind)), formats::to_hex(hash)});
      }
    }
  }
  return digest.finish();
}

std::string digest_metadata(const std::string& canonical_json) {
  formats::Xxh3 hash;
  hash.update(canonical_json.data(), canonical_json.size());
  return formats::to_hex(hash.digest());
}

Status export_state(const std::filesystem::path& file, std::span<const zero::UnitLayout> layouts,
                    const zero::StateObjects& objects, tiers::TierManager& tiers, std::uint64_t applied_steps) {
  const auto places = zero::trainable_parameters(layouts);
  std::vector<formats::TensorEntry> entries;
  for (const zero::ParameterPlace& place : places) {
    for (const formats::StateKind kind : kKinds) {
      entries.push_back({fmt::format("{}.{}", place.name, formats::name_of(kind)), "F32", place.shape});
    }
  }
  STRATA_ASSIGN(formats::SafetensorsWriter writer,
                formats::SafetensorsWriter::create(
                    file, entries, {{"format", "pt"}, {"applied_steps", std::to_string(applied_steps)}}));
  for (const zero::ParameterPlace& place : places) {
    for (const formats::StateKind kind : kKinds) {
      STRATA_TRY(zero::read_state(place, kind, layouts, objects, tiers, [&](std::span<const float> elements) {
        return writer.append(std::as_bytes(elements));
      }));
    }
  }
  return writer.finish();
}

}  // namespace strata::engine
