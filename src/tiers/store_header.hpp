// What a data file says of itself, written once at creation: its header, and on path 0 the directory of objects.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "base/result.hpp"
#include "strata/types.hpp"
#include "tiers/state_store.hpp"

namespace strata::tiers {

struct StoreHeader {
  std::string run_id;
  std::uint32_t path_index = 0;
  std::uint32_t path_count = 1;
  std::uint32_t rank = 0;
  std::uint32_t world_size = 1;
  std::uint32_t slots = 2;
  std::uint64_t objects = 0;
  std::uint64_t created_unix_s = 0;
  std::uint64_t directory_checksum = 0;  ///< the same on every path, so that a foreign path is noticed
  friend bool operator==(const StoreHeader&, const StoreHeader&) = default;
};

/// `out` has kHeaderBytes zeroed bytes.
void encode(const StoreHeader& header, std::span<std::byte> out);
/// kStore, with `file` named: not a data file, unfinished, damaged, or of another version.
[[nodiscard]] Result<StoreHeader> decode_header(std::span<const std::byte> in, const std::filesystem::path& file);
/// kStore with the first field in which `found` is not what this run has.
[[nodiscard]] Status check_header(const StoreHeader& found, const StoreHeader& expected,
                                  const std::filesystem::path& file);

/// Entries have a fixed width, so that the footprint depends on no name; longer names are cut and told apart by hash.
[[nodiscard]] Bytes directory_size(std::size_t objects);
void encode_directory(std::span<const StoreObject> objects, std::span<std::byte> out);
/// kStore with the first object that differs in name, size or presence. `in` holds `recorded` entries.
[[nodiscard]] Status check_directory(std::span<const std::byte> in, std::uint64_t recorded,
                                     std::span<const StoreObject> objects, const std::filesystem::path& file);

}  // namespace strata::tiers
