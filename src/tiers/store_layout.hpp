// Where everything lies in the data files of a store: a pure function of objects, slots, scratch and paths.
//
// docs/adr/0001-state-store-layout.md has the picture. Path 0 carries header, two roots, the directory and two
// generation areas; every path carries a header, slots and, last, scratch, so that scratch may grow from run to run.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "strata/types.hpp"
#include "tiers/state_store.hpp"

namespace strata::tiers {

inline constexpr std::uint32_t kStoreVersion = 1;
inline constexpr Bytes kHeaderBytes{4096};
inline constexpr Bytes kRootBytes{4096};
inline constexpr Bytes kMetadataMax{1u << 20};
/// A generation area has room for one 8-byte checksum per block of this size; version 1 of the table has none yet.
inline constexpr Bytes kChecksumBlock{256u << 10};
inline constexpr std::uint32_t kSlotsMax = 16;
inline constexpr std::size_t kPathsMax = 64;

struct Area {
  Offset offset;
  Bytes bytes;
  [[nodiscard]] Offset end() const { return offset + bytes; }
};

struct PathLayout {
  Offset slots_end;  ///< everything before it must survive; the file is at least this long
  Area scratch;
  Bytes size;  ///< of the file
};

struct ObjectPlace {
  PathId path;
  Offset first;  ///< of slot 0; the slots follow each other
  Bytes bytes;   ///< of one slot
  [[nodiscard]] Offset slot(std::uint32_t index) const { return first + bytes * index; }
};

struct StoreLayout {
  std::array<Offset, 2> roots;
  std::array<Area, 2> generations;  ///< table, then metadata
  Area directory;
  std::vector<PathLayout> paths;
  std::vector<ObjectPlace> places;  ///< by StoreId

  [[nodiscard]] Bytes total() const;
};

struct LayoutInput {
  std::span<const StoreObject> objects;
  std::uint32_t slots = 2;
  Bytes scratch;
  ScratchSpread spread;
};

/// Objects go, in their order, to the path with the fewest bytes so far.
[[nodiscard]] StoreLayout plan_layout(const LayoutInput& input);

}  // namespace strata::tiers
