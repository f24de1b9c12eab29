#include "zero/segment_table.hpp"

#include <algorithm>
#include <limits>
#include <unordered_set>

#include <fmt/format.h>

namespace strata::zero {
namespace {

constexpr std::uint64_t kSubGroupAlignment = 4096;

Result<std::uint64_t> count_elements(const ParameterInfo& parameter) {
  std::uint64_t count = 1;
  for (const std::int64_t dimension : parameter.shape) {
    if (dimension < 0 || (dimension > 0 && count > (1ull << 48) / static_cast<std::uint64_t>(dimension))) {
      return fail(ErrorCode::kConfig, fmt::format("parameter '{}' has an impossible shape", parameter.name),
                  "check the model's dimensions");
    }
    count *= static_cast<std::uint64_t>(dimension);
  }
  return count;
}

Section& section_for(UnitLayout& unit, const ParameterInfo& parameter) {
  for (Section& section : unit.sections) {
    if (section.dtype == parameter.dtype && section.trainable == parameter.trainable) return section;
  }
  Section section;
  section.dtype = parameter.dtype;
  section.trainable = parameter.trainable;
  unit.sections.push_back(std::move(section));
  return unit.sections.back();
}

void cut_sub_groups(Section& section, std::uint64_t largest) {
  const std::uint64_t size = std::max(kSubGroupAlignment, round_down(largest, kSubGroupAlignment));
  for (std::uint64_t begin = 0; begin < section.shard_elements; begin += size) {
    section.sub_groups.push_back({begin, std::min(begin + size, section.shard_elements)});
  }
}

Result<UnitLayout> lay_out_unit(const UnitInfo& info, const LayoutOptions& options,
                                std::unordered_set<std::string>& names) {
  UnitLayout unit;
  unit.name = info.name;
  for (std::uint32_t index = 0; index < info.parameters.size(); ++index) {
    const ParameterInfo& parameter = info.parameters[index];
    if (parameter.name.empty() || !names.insert(parameter.name).second) {
      return fail(ErrorCode::kConfig,
                  fmt::format("parameter name '{}' in unit '{}' is empty or used twice", parameter.name, info.name),
                  "give every parameter its own name");
    }
    STRATA_ASSIGN(const std::uint64_t numel, count_elements(parameter));
    Section& section = section_for(unit, parameter);
    Segment segment;
    segment.parameter = index;
    segment.name = parameter.name;
    segment.shape = parameter.shape;
    segment.offset = section.elements;
    segment.numel = numel;
    segment.group = parameter.group;
    section.elements += round_up(numel, kSegmentAlignment);
    unit.places.push_back({static_cast<std::uint32_t>(&section - unit.sections.data()),
                           static_cast<std::uint32_t>(section.segments.size())});
    section.segments.push_back(std::move(segment));
  }
  for (Section& section : unit.sections) {
    // Parameters without elements still have a place.
    section.elements = round_up(std::max<std::uint64_t>(section.elements, 1), kSegmentAlignment * options.world_size);
    section.shard_elements = section.elements / options.world_size;
    if (section.trainable == Trainable::kYes) cut_sub_groups(section, options.sub_group_elements);
  }
  return unit;
}

}  // namespace

Result<std::vector<UnitLayout>> lay_out(std::span<const UnitInfo> units, const LayoutOptions& options) {
  std::vector<UnitLayout> layouts;
  layouts.reserve(units.size());
  std::unordered_set<std::string> names;
  for (const UnitInfo& info : units) {
    STRATA_ASSIGN(UnitLayout unit, lay_out_unit(info, options, names));
    layouts.push_back(std::move(unit));
  }
  return layouts;
}

std::vector<SegmentPart> parts_within(const Section& section, std::uint64_t begin, std::uint64_t end) {
  std::vector<SegmentPart> parts;
  for (const Segment& segment : section.segments) {
    const std::uint64_t from = std::max(begin, segment.offset);
    const std::uint64_t to = std::min(end, segment.offset + segment.numel);
    if (from < to) parts.push_back({&segment, from - segment.offset, to - from, from - begin});
  }
  return parts;
}

StateArrays state_arrays(DType parameter, const SubGroup& sub_group) {
  constexpr std::uint64_t kFloatsPerBlock = 4096 / sizeof(float);
  return {round_up(sub_group.size(), kFloatsPerBlock), parameter == DType::kFloat32 ? 2u : 3u};
}

}  // namespace strata::zero
