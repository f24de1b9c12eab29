// Random and special optimizer states, with guard elements around them.
#pragma once

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernels.hpp"

namespace strata::test {

/// Printed, and taken from STRATA_TEST_SEED when that is set.
inline std::uint64_t test_seed() {
  const char* text = std::getenv("STRATA_TEST_SEED");
  const std::uint64_t seed = text != nullptr ? std::strtoull(text, nullptr, 10) : 20251125u;
  std::cout << "STRATA_TEST_SEED=" << seed << '\n';
  return seed;
}

inline const std::vector<float>& special_floats() {
  using Limits = std::numeric_limits<float>;
  static const std::vector<float> values = {0.0F,
                                            -0.0F,
                                            1.0F,
                                            -1.0F,
                                            3.5e-5F,
                                            1e-20F,
                                            -1e-20F,
                                            1e20F,
                                            -3e38F,
                                            Limits::max(),
                                            Limits::lowest(),
                                            Limits::min(),
                                            Limits::denorm_min(),
                                            -Limits::denorm_min(),
                                            5e-39F,
                                            Limits::infinity(),
                                            -Limits::infinity(),
                                            std::bit_cast<float>(0x7fc00000u),
                                            std::bit_cast<float>(0xffc00123u),  // quiet NaNs, two payloads
                                            std::bit_cast<float>(0x7f800001u),
                                            std::bit_cast<float>(0xff812345u)};  // signalling NaNs
  return values;
}

/// Arrays whose element 0 lies `offset` elements after `kGuard` guard elements.
template <class T>
class Guarded {
 public:
  static constexpr std::size_t kGuard = 64;
  Guarded(std::size_t n, std::size_t offset) : all_(n + offset + 2 * kGuard, guard()), start_(kGuard + offset) {}
  T* data() { return all_.data() + start_; }
  T& operator[](std::size_t i) { return all_[start_ + i]; }
  [[nodiscard]] const std::vector<T>& all() const { return all_; }

 private:
  static T guard() {
    if constexpr (sizeof(T) == 4) return std::bit_cast<T>(0x4e5a5a5au);
    return static_cast<T>(0x5a5a);
  }
  std::vector<T> all_;
  std::size_t start_;
};

/// The bits, so that NaNs and zeros compare as they are stored.
inline std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits;
  bits.reserve(values.size());
  for (const float value : values) bits.push_back(std::bit_cast<std::uint32_t>(value));
  return bits;
}

/// Start of each array relative to its alignment, in elements.
struct Offsets {
  std::size_t master = 0, exp_avg = 0, exp_avg_sq = 0, gradient = 0, parameter16 = 0;
};

struct AdamData {
  Guarded<float> master, exp_avg, exp_avg_sq, gradient32;
  Guarded<std::uint16_t> gradient16, parameter16;
  std::size_t n;

  explicit AdamData(std::size_t count, const Offsets& at = {})
      : master(count, at.master),
        exp_avg(count, at.exp_avg),
        exp_avg_sq(count, at.exp_avg_sq),
        gradient32(count, at.gradient),
        gradient16(count, at.gradient),
        parameter16(count, at.parameter16),
        n(count) {}

  void fill(std::mt19937_64& random) {
    std::normal_distribution<float> normal;
    for (std::size_t i = 0; i < n; ++i) {
      master[i] = 0.1F * normal(random);
      exp_avg[i] = 0.01F * normal(random);
      exp_avg_sq[i] = 1e-4F * normal(random) * normal(random);
      exp_avg_sq[i] = exp_avg_sq[i] < 0 ? -exp_avg_sq[i] : exp_avg_sq[i];
      gradient16[i] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(0.02F * normal(random)) >> 16);
      gradient32[i] = 0.02F * normal(random);
    }
  }

  kernels::AdamBlock block32() {
    return {master.data(), exp_avg.data(), exp_avg_sq.data(), gradient32.data(), nullptr, n};
  }
  kernels::AdamBlock block16() {
    return {master.data(), exp_avg.data(), exp_avg_sq.data(), gradient16.data(), parameter16.data(), n};
  }

  [[nodiscard]] bool same_bits(const AdamData& other) const {
    return bits_of(master.all()) == bits_of(other.master.all()) &&
           bits_of(exp_avg.all()) == bits_of(other.exp_avg.all()) &&
           bits_of(exp_avg_sq.all()) == bits_of(other.exp_avg_sq.all()) && parameter16.all() == other.parameter16.all();
  }
};

}  // namespace strata::test
