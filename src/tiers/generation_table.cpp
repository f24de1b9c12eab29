#include "tiers/generation_table.hpp"

#include <fmt/format.h>

#include "tiers/store_bytes.hpp"

namespace strata::tiers {
namespace {

constexpr std::uint64_t kMagic = 0x454c424154525453;  // "STRTABLE"
constexpr std::size_t kHead = 40;
constexpr std::size_t kEntry = 16;

}  // namespace

Bytes encoded_size(std::size_t objects) {
  return Bytes(kHead + kEntry * objects);
}

void encode(const GenerationTable& table, std::span<std::byte> out) {
  ByteWriter writer(out);
  writer.put(kMagic);
  writer.put(kTableVersion);
  writer.put(std::uint32_t{0});  // bytes per checksum; none in this version
  writer.put(static_cast<std::uint64_t>(table.entries.size()));
  writer.put(table.generation);
  writer.put(table.sequence);
  for (const TableEntry& entry : table.entries) {
    writer.put(entry.slot);
    writer.put(std::uint32_t{0});
    writer.put(entry.written);
  }
}

Result<GenerationTable> decode_table(std::span<const std::byte> in, const TableLimits& limits) {
  ByteReader reader(in);
  if (reader.take<std::uint64_t>() != kMagic) return fail(ErrorCode::kStore, "no generation table");
  if (const auto version = reader.take<std::uint32_t>(); version != kTableVersion) {
    return fail(ErrorCode::kStore,
                fmt::format("generation table of version {}, this program reads {}", version, kTableVersion));
  }
  (void)reader.take<std::uint32_t>();
  const auto objects = reader.take<std::uint64_t>();
  if (objects != limits.objects || in.size() != encoded_size(limits.objects).value) {
    return fail(ErrorCode::kStore,
                fmt::format("generation table of {} objects instead of {}", objects, limits.objects));
  }
  GenerationTable table;
  table.generation = reader.take<std::uint64_t>();
  table.sequence = reader.take<std::uint64_t>();
  table.entries.resize(limits.objects);
  for (std::size_t i = 0; i < table.entries.size(); ++i) {
    TableEntry& entry = table.entries[i];
    entry.slot = reader.take<std::uint32_t>();
    (void)reader.take<std::uint32_t>();
    entry.written = reader.take<std::uint64_t>();
    if (entry.slot != kUnwritten && entry.slot >= limits.slots) {
      return fail(ErrorCode::kStore, fmt::format("object {} in slot {} of {}", i, entry.slot, limits.slots));
    }
  }
  return table;
}

}  // namespace strata::tiers
