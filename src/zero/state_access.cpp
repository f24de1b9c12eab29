#include "zero/state_access.hpp"

#include <algorithm>
#include <cstring>

namespace strata::zero {
namespace {

struct SectionWriter {
  const Section& section;
  const SectionObjects& ids;
  tiers::TierManager& tiers;
  optim::CpuOptimizer& optimizer;
  std::uint64_t shard_begin;
  const ElementSource& source;

  /// Frozen parameters have no master: they are made in pieces and rounded into place.
  Status write_frozen(std::span<std::byte> parameter) const {
    constexpr std::uint64_t kPiece = 1u << 18;
    std::vector<float> wide(kPiece);
    for (const SegmentPart& part : parts_within(section, shard_begin, shard_begin + section.shard_elements)) {
      for (std::uint64_t done = 0; done < part.count; done += kPiece) {
        const std::span<float> piece(wide.data(), std::min(kPiece, part.count - done));
        STRATA_TRY(source(*part.segment, part.first + done, piece));
        store(piece, parameter, part.at + done);
      }
    }
    return {};
  }

  Status write_sub_group(std::size_t k, std::span<std::byte> parameter) const {
    const SubGroup& sub_group = section.sub_groups[k];
    const StateArrays arrays = state_arrays(section.dtype, sub_group);
    STRATA_ASSIGN(tiers::WriteLease state, tiers.write(ids.optimizer[k], Tier::kHost, tiers::Content::kOverwrite));
    std::memset(state.bytes().data(), 0, arrays.bytes().value);
    auto* floats = reinterpret_cast<float*>(state.bytes().data());
    for (const SegmentPart& part :
         parts_within(section, shard_begin + sub_group.begin, shard_begin + sub_group.end)) {
      float* master = section.dtype == DType::kFloat32
                          ? reinterpret_cast<float*>(parameter.data()) + sub_group.begin + part.at
                          : floats + part.at;
      const std::span<float> values(master, part.count);
      if (auto filled = source(*part.segment, part.first, values); !filled) {
        state.abandon();
        return filled;
      }
      if (section.dtype != DType::kFloat32) store(values, parameter, sub_group.begin + part.at);
    }
    return {};
  }

  void store(std::span<const float> values, std::span<std::byte> parameter, std::uint64_t at) const {
    if (section.dtype == DType::kFloat32) {
      std::memcpy(reinterpret_cast<float*>(parameter.data()) + at, values.data(), values.size_bytes());
    } else {
      optimizer.round_to_bf16(values, {reinterpret_cast<std::uint16_t*>(parameter.data()) + at, values.size()});
    }
  }
};

Status initialize_section(const SectionWriter& writer) {
  STRATA_ASSIGN(tiers::WriteLease parameter,
                writer.tiers.write(writer.ids.parameter, Tier::kHost, tiers::Content::kOverwrite));
  std::memset(parameter.bytes().data(), 0, writer.section.shard_bytes().value);
  Status written;
  if (writer.section.trainable == Trainable::kNo) {
    written = writer.write_frozen(parameter.bytes());
  } else {
    for (std::size_t k = 0; k < writer.section.sub_groups.size() && written; ++k) {
      written = writer.write_sub_group(k, parameter.bytes());
    }
  }
  if (!written) parameter.abandon();
  return written;
}

}  // namespace

Status initialize_unit(std::uint32_t unit, std::span<const UnitLayout> layouts, const StateObjects& objects,
                       tiers::TierManager& tiers, optim::CpuOptimizer& optimizer, std::uint32_t rank,
                       const ElementSource& source) {
  for (std::size_t s = 0; s < layouts[unit].sections.size(); ++s) {
    const Section& section = layouts[unit].sections[s];
    const SectionObjects& ids = objects.units[unit][s];
    const SectionWriter writer{section, ids, tiers, optimizer, section.shard_elements * rank, source};
    Status written = initialize_section(writer);
    if (!written && written.error().code == ErrorCode::kDoesNotFit) {
      tiers.drop_unleased(Tier::kHost);  // the plan has room, but it was scattered
      written = initialize_section(writer);
    }
    STRATA_TRY(written);
  }
  return {};
}

std::vector<ParameterPlace> trainable_parameters(std::span<const UnitLayout> layouts) {
  std::vector<ParameterPlace> places;
  for (std::uint32_t u = 0; u < layouts.size(); ++u) {
    for (std::uint32_t s = 0; s < layouts[u].sections.size(); ++s) {
      const Section& section = layouts[u].sections[s];
      if (section.trainable == Trainable::kNo) continue;
      for (std::uint32_t g = 0; g < section.segments.size(); ++g) {
        const Segment& segment = section.segments[g];
        places.push_back({segment.name, segment.shape, segment.numel, u, s, g});
      }
    }
  }
  std::sort(places.begin(), places.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return places;
}

Status read_state(const ParameterPlace& place, formats::StateKind kind, std::span<const UnitLayout> layouts,
                  const StateObjects& objects, tiers::TierManager& tiers,
                  const std::function<Status(std::span<const float>)>& sink) {
  const Section& section = layouts[place.unit].sections[place.section];
  const SectionObjects& ids = objects.units[place.unit][place.section];
  const Segment& segment = section.segments[place.segment];
  const std::uint64_t begin = segment.offset;
  const std::uint64_t end = segment.offset + segment.numel;
  if (kind == formats::StateKind::kMaster && section.dtype == DType::kFloat32) {
    STRATA_ASSIGN(const tiers::ReadLease parameter, tiers.read(ids.parameter, Tier::kHost));
    return sink({reinterpret_cast<const float*>(parameter.bytes().data()) + begin, segment.numel});
  }
  for (std::size_t k = 0; k < section.sub_groups.size(); ++k) {
    const SubGroup& sub_group = section.sub_groups[k];
    const std::uint64_t from = std::max(begin, sub_group.begin);
    const std::uint64_t to = std::min(end, sub_group.end);
    if (from >= to) continue;
    const StateArrays arrays = state_arrays(section.dtype, sub_group);
    const std::uint64_t array =
        static_cast<std::uint64_t>(kind) - (section.dtype == DType::kFloat32 ? 1u : 0u);
    STRATA_ASSIGN(const tiers::ReadLease state, tiers.read(ids.optimizer[k], Tier::kHost));
    const auto* floats = reinterpret_cast<const float*>(state.bytes().data());
    STRATA_TRY(sink({floats + array * arrays.stride + (from - sub_group.begin), to - from}));
  }
  return {};
}

}  // namespace strata::zero
