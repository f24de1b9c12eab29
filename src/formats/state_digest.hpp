// state_digest: one hash over every trainable parameter's state (docs/formats.md, "Digests").
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "formats/xxh3.hpp"
#include "strata/types.hpp"

namespace strata::formats {

/// Which state a record is about, with the indices that the format fixes.
enum class StateKind : std::uint8_t { kMaster = 0, kExpAvg = 1, kExpAvgSq = 2, kMomentum = 3, kSum = 4 };
[[nodiscard]] std::string_view name_of(StateKind kind);

struct TensorRecord {
  std::string_view name;  ///< the parameter's state_dict name
  StateKind kind = StateKind::kMaster;
  DType dtype = DType::kFloat32;
  std::uint64_t numel = 0;
  std::uint64_t applied_steps = 0;
};

/// Feed the records in bytewise order of the names, kinds in order of their index; the elements in pieces.
class StateDigest {
 public:
  void begin(const TensorRecord& record);
  void update(std::span<const std::byte> elements) { record_.update(elements); }
  /// The record's own hash, as `strata digest --per-tensor` prints it.
  Hash128 end();
  [[nodiscard]] std::string finish() const { return to_hex(all_.digest()); }

 private:
  Xxh3 all_;
  Xxh3 record_;
};

}  // namespace strata::formats
