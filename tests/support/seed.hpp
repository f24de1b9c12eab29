// Seeds of random tests: printed, and taken from STRATA_TEST_SEED when that is set, so that a failure can be replayed.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>

namespace strata::testing {

[[nodiscard]] inline std::uint64_t test_seed() {
  const char* given = std::getenv("STRATA_TEST_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::cout << "STRATA_TEST_SEED=" << seed << std::endl;
  return seed;
}

/// A whole number in [from, to]; the same on every standard library.
template <class Generator>
[[nodiscard]] std::uint64_t pick(Generator& random, std::uint64_t from, std::uint64_t to) {
  static_assert(Generator::min() == 0 && Generator::max() == ~std::uint64_t{0}, "a 64-bit generator");
  const std::uint64_t range = to - from + 1;
  return range == 0 ? random() : from + random() % range;
}

}  // namespace strata::testing
