// The root: 4 KiB that make one generation visible at once.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.hpp"
#include "strata/types.hpp"
#include "tiers/state_store.hpp"

namespace strata::tiers {

/// kDirty: an in-place store has begun to overwrite this generation, which therefore exists no longer.
enum class RootState : std::uint32_t { kClean = 1, kDirty = 2 };

/// Checked bytes elsewhere in the file.
struct BlobRef {
  Offset offset;
  Bytes bytes;
  std::uint64_t checksum = 0;
  friend bool operator==(const BlobRef&, const BlobRef&) = default;
};

struct RootRecord {
  std::string run_id;
  std::uint64_t sequence = 0;  ///< of root writes; the greater one of two roots is the newer
  Generation generation = 0;
  std::uint64_t step = 0;
  std::uint64_t unix_s = 0;
  RootState state = RootState::kClean;
  BlobRef table;  ///< of zero bytes in generation 0: nothing written yet
  BlobRef metadata;
  friend bool operator==(const RootRecord&, const RootRecord&) = default;
};

/// `out` has kRootBytes zeroed bytes.
void encode(const RootRecord& root, std::span<std::byte> out);
/// kStore with the reason: not a root, damaged, another version, another run.
[[nodiscard]] Result<RootRecord> decode_root(std::span<const std::byte> in, const std::string& run_id);

}  // namespace strata::tiers
