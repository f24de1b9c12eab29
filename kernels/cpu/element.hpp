// One element at a time: what the scalar kernels are made of.
#pragma once

#include <bit>
#include <cstdint>

namespace strata::kernels::scalar {

/// Stored NaNs are canonical; see kernels.hpp.
inline float canonical(float x) {
  return x == x ? x : std::bit_cast<float>(0x7fc00000u);
}

inline float widen(float x) {
  return x;
}
inline float widen(std::uint16_t x) {
  return std::bit_cast<float>(std::uint32_t{x} << 16);
}

/// Ties away from zero, so that (bits - (hi << 16)) fits a signed 16-bit remainder.
inline std::uint16_t round_bf16(float x) {
  return static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(canonical(x)) + 0x8000u) >> 16);
}

}  // namespace strata::kernels::scalar
