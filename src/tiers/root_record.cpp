#include "tiers/root_record.hpp"

#include <fmt/format.h>

#include "base/check.hpp"
#include "tiers/store_bytes.hpp"
#include "tiers/store_layout.hpp"

namespace strata::tiers {
namespace {

constexpr std::uint64_t kMagic = 0x544f4f5241525453;  // "STRAROOT"
constexpr std::size_t kRunIdBytes = 32;
constexpr std::size_t kChecked = kRootBytes.value - sizeof(std::uint64_t);

void put(ByteWriter& writer, const BlobRef& blob) {
  writer.put(blob.offset.value);
  writer.put(blob.bytes.value);
  writer.put(blob.checksum);
}

BlobRef take_blob(ByteReader& reader) {
  BlobRef blob;
  blob.offset = Offset(reader.take<std::uint64_t>());
  blob.bytes = Bytes(reader.take<std::uint64_t>());
  blob.checksum = reader.take<std::uint64_t>();
  return blob;
}

}  // namespace

void encode(const RootRecord& root, std::span<std::byte> out) {
  STRATA_CHECK(out.size() == kRootBytes.value, "a root has its own sector");
  ByteWriter writer(out);
  writer.put(kMagic);
  writer.put(kStoreVersion);
  writer.put(static_cast<std::uint32_t>(root.state));
  writer.put_text(root.run_id, kRunIdBytes);
  writer.put(root.sequence);
  writer.put(root.generation);
  writer.put(root.step);
  writer.put(root.unix_s);
  put(writer, root.table);
  put(writer, root.metadata);
  writer.skip(kChecked - writer.position());
  writer.put(checksum(out.first(kChecked)));
}

Result<RootRecord> decode_root(std::span<const std::byte> in, const std::string& run_id) {
  STRATA_CHECK(in.size() == kRootBytes.value, "a root has its own sector");
  ByteReader reader(in);
  if (reader.take<std::uint64_t>() != kMagic) return fail(ErrorCode::kStore, "no root");
  // Before the checksum, which another version may keep elsewhere.
  if (const auto version = reader.take<std::uint32_t>(); version != kStoreVersion) {
    return fail(ErrorCode::kStore, fmt::format("root of version {}, this program reads {}", version, kStoreVersion));
  }
  ByteReader tail(in.subspan(kChecked));
  if (tail.take<std::uint64_t>() != checksum(in.first(kChecked))) return fail(ErrorCode::kStore, "root is damaged");
  RootRecord root;
  const auto state = reader.take<std::uint32_t>();
  if (state != static_cast<std::uint32_t>(RootState::kClean) &&
      state != static_cast<std::uint32_t>(RootState::kDirty)) {
    return fail(ErrorCode::kStore, fmt::format("root in unknown state {}", state));
  }
  root.state = static_cast<RootState>(state);
  root.run_id = reader.take_text(kRunIdBytes);
  if (root.run_id != run_id) return fail(ErrorCode::kStore, fmt::format("root of run {}", root.run_id));
  root.sequence = reader.take<std::uint64_t>();
  root.generation = reader.take<std::uint64_t>();
  root.step = reader.take<std::uint64_t>();
  root.unix_s = reader.take<std::uint64_t>();
  root.table = take_blob(reader);
  root.metadata = take_blob(reader);
  return root;
}

}  // namespace strata::tiers
