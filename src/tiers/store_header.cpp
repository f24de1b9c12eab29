#include "tiers/store_header.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/check.hpp"
#include "tiers/store_bytes.hpp"
#include "tiers/store_layout.hpp"

namespace strata::tiers {
namespace {

constexpr std::uint64_t kMagic = 0x4154414441525453;  // "STRADATA"
constexpr std::size_t kRunIdBytes = 32;
constexpr std::size_t kChecked = kHeaderBytes.value - sizeof(std::uint64_t);
constexpr std::size_t kEntryBytes = 256;
constexpr std::size_t kNameBytes = 224;

tl::unexpected<Error> refuse(const std::filesystem::path& file, const std::string& why, const char* hint) {
  return fail(ErrorCode::kStore, fmt::format("'{}' {}", file.string(), why), hint);
}

std::uint64_t hash_of(const std::string& name) {
  return checksum(std::as_bytes(std::span(name)));
}

struct Entry {
  std::uint64_t bytes = 0;
  std::uint64_t hash = 0;
  std::string shown;  ///< the name, cut to kNameBytes
};

Entry take_entry(ByteReader& reader) {
  Entry entry;
  entry.bytes = reader.take<std::uint64_t>();
  entry.hash = reader.take<std::uint64_t>();
  (void)reader.take_bytes(kEntryBytes - kNameBytes - 2 * sizeof(std::uint64_t));
  entry.shown = reader.take_text(kNameBytes);
  return entry;
}

}  // namespace

void encode(const StoreHeader& header, std::span<std::byte> out) {
  STRATA_CHECK(out.size() == kHeaderBytes.value, "a header has its own sector");
  ByteWriter writer(out);
  writer.put(kMagic);
  writer.put(kStoreVersion);
  writer.put_text(header.run_id, kRunIdBytes);
  writer.put(header.path_index);
  writer.put(header.path_count);
  writer.put(header.rank);
  writer.put(header.world_size);
  writer.put(header.slots);
  writer.put(header.objects);
  writer.put(header.created_unix_s);
  writer.put(header.directory_checksum);
  writer.skip(kChecked - writer.position());
  writer.put(checksum(out.first(kChecked)));
}

Result<StoreHeader> decode_header(std::span<const std::byte> in, const std::filesystem::path& file) {
  STRATA_CHECK(in.size() == kHeaderBytes.value, "a header has its own sector");
  if (std::all_of(in.begin(), in.end(), [](std::byte b) { return b == std::byte{0}; })) {
    return refuse(file, "was never finished", "the run stopped while it was made: start a new one");
  }
  ByteReader reader(in);
  if (reader.take<std::uint64_t>() != kMagic) return refuse(file, "is no data file of a state store", "check the path");
  if (const auto version = reader.take<std::uint32_t>(); version != kStoreVersion) {
    return refuse(file, fmt::format("has format version {}, this program reads {}", version, kStoreVersion),
                  "use the program that wrote it");
  }
  ByteReader tail(in.subspan(kChecked));
  if (tail.take<std::uint64_t>() != checksum(in.first(kChecked))) {
    return refuse(file, "has a damaged header", "resume from a checkpoint, or start a new run");
  }
  StoreHeader header;
  header.run_id = reader.take_text(kRunIdBytes);
  header.path_index = reader.take<std::uint32_t>();
  header.path_count = reader.take<std::uint32_t>();
  header.rank = reader.take<std::uint32_t>();
  header.world_size = reader.take<std::uint32_t>();
  header.slots = reader.take<std::uint32_t>();
  header.objects = reader.take<std::uint64_t>();
  header.created_unix_s = reader.take<std::uint64_t>();
  header.directory_checksum = reader.take<std::uint64_t>();
  return header;
}

Status check_header(const StoreHeader& found, const StoreHeader& expected, const std::filesystem::path& file) {
  if (found.run_id != expected.run_id) {
    return refuse(file, fmt::format("belongs to run {}, not {}", found.run_id, expected.run_id),
                  "give the paths of this run");
  }
  if (found.rank != expected.rank || found.world_size != expected.world_size) {
    return refuse(file,
                  fmt::format("belongs to rank {} of {}, not {} of {}", found.rank, found.world_size, expected.rank,
                              expected.world_size),
                  "resume with as many ranks as before");
  }
  if (found.path_count != expected.path_count) {
    return refuse(file, fmt::format("belongs to a run on {} paths, not {}", found.path_count, expected.path_count),
                  "give all paths of the run, in its order");
  }
  if (found.path_index != expected.path_index) {
    return refuse(file,
                  fmt::format("is path {} of its run, not {} (counted from 0)", found.path_index, expected.path_index),
                  "give the paths in the order of the run");
  }
  if (found.slots != expected.slots) {
    return refuse(file, fmt::format("has {} slots per object, not {}", found.slots, expected.slots),
                  "keep durable_steps and pinned_checkpoints as the run began");
  }
  return {};
}

Bytes directory_size(std::size_t objects) {
  return Bytes(kEntryBytes * objects);
}

void encode_directory(std::span<const StoreObject> objects, std::span<std::byte> out) {
  ByteWriter writer(out);
  for (const StoreObject& object : objects) {
    writer.put(object.bytes.value);
    writer.put(hash_of(object.name));
    writer.skip(kEntryBytes - kNameBytes - 2 * sizeof(std::uint64_t));
    writer.put_text(object.name, kNameBytes);
  }
}

Status check_directory(std::span<const std::byte> in, std::uint64_t recorded, std::span<const StoreObject> objects,
                       const std::filesystem::path& file) {
  constexpr const char* hint = "resume with the model and the configuration that the run began with";
  ByteReader reader(in);
  for (std::uint64_t i = 0; i < recorded; ++i) {
    const Entry entry = take_entry(reader);
    if (i >= objects.size()) {
      return refuse(file, fmt::format("has object '{}', which this model lacks", entry.shown), hint);
    }
    const StoreObject& object = objects[i];
    if (entry.hash != hash_of(object.name)) {
      return refuse(file, fmt::format("has '{}' as object {}, this model has '{}'", entry.shown, i, object.name), hint);
    }
    if (entry.bytes != object.bytes.value) {
      return refuse(
          file, fmt::format("has {} bytes in '{}', this model has {}", entry.bytes, entry.shown, object.bytes.value),
          hint);
    }
  }
  if (recorded < objects.size()) {
    return refuse(file, fmt::format("lacks object '{}' of this model", objects[recorded].name), hint);
  }
  return {};
}

}  // namespace strata::tiers
