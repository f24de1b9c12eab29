// XXH3-128 as the formats use it: seed 0, canonical byte order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace strata::formats {

using Hash128 = std::array<std::uint8_t, 16>;

/// Streaming hash. Move-only.
class Xxh3 {
 public:
  Xxh3();
  ~Xxh3();
  Xxh3(Xxh3&&) noexcept;
  Xxh3& operator=(Xxh3&&) noexcept;

  void update(std::span<const std::byte> bytes);
  void update(const void* data, std::size_t size);
  [[nodiscard]] Hash128 digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// 32 lowercase hex digits.
[[nodiscard]] std::string to_hex(const Hash128& hash);

}  // namespace strata::formats
