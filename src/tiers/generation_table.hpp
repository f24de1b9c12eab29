// The table of a generation: for each object the slot that holds its version.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "strata/types.hpp"
#include "tiers/state_store.hpp"

namespace strata::tiers {

inline constexpr std::uint32_t kUnwritten = std::numeric_limits<std::uint32_t>::max();

struct TableEntry {
  std::uint32_t slot = kUnwritten;
  Generation written = 0;  ///< the generation whose commit brought this version
  friend bool operator==(const TableEntry&, const TableEntry&) = default;
};

struct GenerationTable {
  Generation generation = 0;
  std::uint64_t sequence = 0;       ///< of the root that first names it: no two tables have the same bytes
  std::vector<TableEntry> entries;  ///< by StoreId
  friend bool operator==(const GenerationTable&, const GenerationTable&) = default;
};

/// Version 1: header {magic, version, checksum block (0: none), objects, generation, sequence}, then {slot, reserved,
/// written} per object. A later version appends one checksum per block; the generation areas have the room already.
inline constexpr std::uint32_t kTableVersion = 1;

[[nodiscard]] Bytes encoded_size(std::size_t objects);
/// `out` has encoded_size() bytes.
void encode(const GenerationTable& table, std::span<std::byte> out);

struct TableLimits {
  std::size_t objects = 0;
  std::uint32_t slots = 0;
};
/// kStore when it is not a table of so many objects and slots. The root's checksum is the caller's business.
[[nodiscard]] Result<GenerationTable> decode_table(std::span<const std::byte> in, const TableLimits& limits);

}  // namespace strata::tiers
