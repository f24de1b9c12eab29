// How a unit's parameters lie in flat buffers, and how those are cut over ranks and into sub-groups. Pure; no torch.
//
// Every mode uses the same layout, in-memory too: shards, sub-groups, checkpoints and digests are written over
// segments.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "strata/types.hpp"

namespace strata::zero {

/// Parameters start, and shards are cut, at multiples of this many elements.
inline constexpr std::uint64_t kSegmentAlignment = 256;

enum class Trainable : std::uint8_t { kNo, kYes };

/// What somebody who owns a model says of one parameter.
struct ParameterInfo {
  std::string name;  ///< state_dict name
  std::vector<std::int64_t> shape;
  DType dtype = DType::kFloat32;
  Trainable trainable = Trainable::kYes;
  std::uint32_t group = 0;  ///< optimizer parameter group
};

struct UnitInfo {
  std::string name;
  std::vector<ParameterInfo> parameters;
};

/// One parameter's place in its section.
struct Segment {
  std::uint32_t parameter = 0;  ///< index within the unit, in the order of UnitInfo
  std::string name;
  std::vector<std::int64_t> shape;
  std::uint64_t offset = 0;  ///< elements from the section's start, a multiple of kSegmentAlignment
  std::uint64_t numel = 0;
  std::uint32_t group = 0;
};

/// A slice of one rank's shard that the optimizer steps as one piece, in elements of the shard.
struct SubGroup {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  [[nodiscard]] std::uint64_t size() const { return end - begin; }
};

/// The parameters of a unit that share dtype and trainability: one flat buffer, cut into equal shards over the ranks.
struct Section {
  DType dtype = DType::kFloat32;
  Trainable trainable = Trainable::kYes;
  std::uint64_t elements = 0;        ///< with padding; a multiple of kSegmentAlignment x world size
  std::uint64_t shard_elements = 0;  ///< elements / world size
  std::vector<Segment> segments;
  std::vector<SubGroup> sub_groups;  ///< of one shard; empty for frozen sections

  [[nodiscard]] Bytes bytes() const { return bytes_of(dtype, elements); }
  [[nodiscard]] Bytes shard_bytes() const { return bytes_of(dtype, shard_elements); }
};

struct UnitLayout {
  std::string name;
  std::vector<Section> sections;
  /// parameter index -> (section, segment)
  struct Place {
    std::uint32_t section = 0;
    std::uint32_t segment = 0;
  };
  std::vector<Place> places;
};

struct LayoutOptions {
  std::uint32_t world_size = 1;
  std::uint64_t sub_group_elements = 1'000'000'000;  ///< upper bound; rounded down to a multiple of 4096
};

/// A function of (unit, world size, sub-group size) only. kConfig for an empty name, a duplicate name, a shape with a
/// negative dimension or too many elements.
[[nodiscard]] Result<std::vector<UnitLayout>> lay_out(std::span<const UnitInfo> units, const LayoutOptions& options);

/// Part of a segment that lies in [begin, end) of the section: elements of the parameter, and where they start there.
struct SegmentPart {
  const Segment* segment = nullptr;
  std::uint64_t first = 0;        ///< element of the parameter
  std::uint64_t count = 0;
  std::uint64_t at = 0;           ///< elements from `begin`
};

/// The parts of a section's segments inside [begin, end) elements, in order.
[[nodiscard]] std::vector<SegmentPart> parts_within(const Section& section, std::uint64_t begin, std::uint64_t end);

/// How a sub-group's optimizer object is laid out: arrays of float32 one after another, each padded to 4 KiB.
/// With 16-bit parameters: [master | exp_avg | exp_avg_sq]; with fp32 parameters the parameter is the master.
struct StateArrays {
  std::uint64_t stride = 0;  ///< elements from one array to the next
  std::uint32_t count = 0;   ///< 3 or 2
  [[nodiscard]] Bytes bytes() const { return Bytes(stride * count * sizeof(float)); }
};
[[nodiscard]] StateArrays state_arrays(DType parameter, const SubGroup& sub_group);

}  // namespace strata::zero
