#include <limits>

#include "kernels/cpu/element.hpp"
#include "kernels/cpu/kernels_of.hpp"

namespace strata::kernels::scalar {
namespace {

template <class T>
double sum_squares(const T* from, std::size_t n) {
  constexpr std::size_t kLanes = 16;
  double lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const double x = widen(from[i + lane]);
      lanes[lane] += x * x;
    }
  }
  for (std::size_t lane = 0; i < n; ++i, ++lane) {
    const double x = widen(from[i]);
    lanes[lane] += x * x;
  }
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0] == lanes[0] ? lanes[0] : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

double sum_squares_fp32(const float* from, std::size_t n) {
  return sum_squares(from, n);
}
double sum_squares_bf16(const std::uint16_t* from, std::size_t n) {
  return sum_squares(from, n);
}

}  // namespace strata::kernels::scalar
