// Philox 4x32-10: a counter-based generator, so that any element's randomness is computed without those before it.
// Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3" (SC11), section 4.3 and table 2.
#pragma once

#include <array>
#include <cstdint>

namespace strata::model {

using PhiloxBlock = std::array<std::uint32_t, 4>;

[[nodiscard]] inline PhiloxBlock philox(std::uint64_t key, PhiloxBlock counter) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  auto key0 = static_cast<std::uint32_t>(key);
  auto key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kMultiplier0 * counter[0];
    const std::uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<std::uint32_t>(product0)};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return counter;
}

/// The fourth counter word says what the numbers are for, so that two uses with one key never share them.
enum class PhiloxUse : std::uint32_t { kInitialize = 0x494E4954, kDropout = 0x44524F50 };

/// Block number `index` of stream `stream` for one use.
[[nodiscard]] inline PhiloxBlock philox(std::uint64_t key, std::uint64_t index, std::uint32_t stream, PhiloxUse use) {
  return philox(key, {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), stream,
                      static_cast<std::uint32_t>(use)});
}

}  // namespace strata::model
