#include "model/initialize.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include <xxhash.h>

#include "base/check.hpp"
#include "model/philox.hpp"

namespace strata::model {
namespace {

// Own log, sine and cosine: a C library may change its last bit between versions, and with it every digest of a run.
// Multiplication, addition, division and sqrt are exact by IEEE 754, and the build forbids contraction to fma.

/// ln(x) for a normal x > 0: x = m 2^e with m in [sqrt(1/2), sqrt(2)), and ln m = 2 atanh((m - 1) / (m + 1)).
double natural_log(double x) {
  constexpr double kLn2 = 0.693147180559945309417;
  constexpr std::uint64_t kSqrtHalf = 0x3FE6A09E667F3BCD;  // bits of sqrt(1/2)
  const auto bits = std::bit_cast<std::uint64_t>(x);
  const auto exponent = static_cast<std::int64_t>(bits - kSqrtHalf) >> 52;
  const auto m = std::bit_cast<double>(bits - (static_cast<std::uint64_t>(exponent) << 52));
  const double s = (m - 1.0) / (m + 1.0);
  const double z = s * s;  // at most 0.0295: ten terms reach 1e-16
  double series = 1.0 / 19;
  for (const double c : {1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1.0}) {
    series = series * z + c;
  }
  return static_cast<double>(exponent) * kLn2 + 2.0 * s * series;
}

struct Direction {
  double cosine;
  double sine;
};

/// (cos, sin) of `turn` full turns, 0 <= turn < 1: reduced to an eighth of a turn on either side of a quarter, where
/// the Taylor series to the 15th order are exact to 1e-17.
Direction direction_of(double turn) {
  constexpr double kHalfPi = 1.57079632679489661923;
  const int quarter = (static_cast<int>(turn * 8.0) + 1) / 2;
  const double angle = (turn * 4.0 - static_cast<double>(quarter)) * kHalfPi;
  const double z = angle * angle;
  double sine = 1.0;
  for (const double c : {1.0 / (14 * 15), 1.0 / (12 * 13), 1.0 / (10 * 11), 1.0 / (8 * 9), 1.0 / (6 * 7), 1.0 / (4 * 5),
                         1.0 / (2 * 3)}) {
    sine = 1.0 - z * c * sine;
  }
  sine *= angle;
  double cosine = 1.0;
  for (const double c : {1.0 / (15 * 16), 1.0 / (13 * 14), 1.0 / (11 * 12), 1.0 / (9 * 10), 1.0 / (7 * 8),
                         1.0 / (5 * 6), 1.0 / (3 * 4), 1.0 / (1 * 2)}) {
    cosine = 1.0 - z * c * cosine;
  }
  switch (quarter & 3) {
    case 0: return {cosine, sine};
    case 1: return {-sine, cosine};
    case 2: return {-cosine, -sine};
    default: return {sine, -cosine};
  }
}

/// Two independent normal values (Box and Muller) from one block: elements 2 `pair` and 2 `pair` + 1.
Direction normal_pair(std::uint64_t key, std::uint64_t pair) {
  constexpr double kScale = 0x1p-52;
  const auto words = philox(key, pair, 0, PhiloxUse::kInitialize);
  const std::uint64_t a = (std::uint64_t{words[1]} << 32 | words[0]) >> 12;
  const std::uint64_t b = (std::uint64_t{words[3]} << 32 | words[2]) >> 12;
  const double radius = std::sqrt(-2.0 * natural_log(static_cast<double>(a + 1) * kScale));
  const auto direction = direction_of(static_cast<double>(b) * kScale);
  return {radius * direction.cosine, radius * direction.sine};
}

void fill_normal(std::uint64_t key, double std, std::uint64_t first, std::span<float> out) {
  const std::uint64_t end = first + out.size();
  for (std::uint64_t pair = first / 2; pair * 2 < end; ++pair) {
    const auto values = normal_pair(key, pair);
    if (pair * 2 >= first) out[pair * 2 - first] = static_cast<float>(std * values.cosine);
    if (pair * 2 + 1 >= first && pair * 2 + 1 < end) out[pair * 2 + 1 - first] = static_cast<float>(std * values.sine);
  }
}

}  // namespace

void initialize_parameter(const ParameterSpec& parameter, std::uint64_t seed, std::uint64_t first_element,
                          std::span<float> out) {
  STRATA_CHECK(first_element <= parameter.elements() && out.size() <= parameter.elements() - first_element,
               parameter.name);
  switch (parameter.init.kind) {
    case InitRule::Kind::kZeros: std::ranges::fill(out, 0.0F); return;
    case InitRule::Kind::kOnes: std::ranges::fill(out, 1.0F); return;
    case InitRule::Kind::kNormal: break;
  }
  const auto key = XXH3_64bits_withSeed(parameter.name.data(), parameter.name.size(), seed);
  fill_normal(key, parameter.init.std, first_element, out);
}

}  // namespace strata::model
