// The lanes that tiers move bytes on.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace strata::tiers {

enum class Lane : std::uint8_t { kDiskRead, kDiskWrite, kHostToDevice, kDeviceToHost };
inline constexpr std::size_t kLaneCount = 4;

[[nodiscard]] inline std::uint64_t now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

}  // namespace strata::tiers
