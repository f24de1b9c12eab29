#include "formats/state_digest.hpp"

#include <bit>

namespace strata::formats {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

template <class T>
void put(Xxh3& hash, T value) {
  hash.update(&value, sizeof value);
}

}  // namespace

std::string_view name_of(StateKind kind) {
  constexpr std::string_view names[] = {"master", "exp_avg", "exp_avg_sq", "momentum", "sum"};
  return names[static_cast<std::size_t>(kind)];
}

void StateDigest::begin(const TensorRecord& record) {
  record_ = Xxh3();
  put(record_, static_cast<std::uint32_t>(record.name.size()));
  record_.update(record.name.data(), record.name.size());
  put(record_, static_cast<std::uint8_t>(record.kind));
  put(record_, static_cast<std::uint8_t>(record.dtype));
  put(record_, record.numel);
  put(record_, record.applied_steps);
}

Hash128 StateDigest::end() {
  const Hash128 hash = record_.digest();
  all_.update(hash.data(), hash.size());
  return hash;
}

}  // namespace strata::formats
