#include <immintrin.h>

#include "kernels/cpu/kernels_of.hpp"
#include "kernels/cpu/vector_avx512.hpp"

namespace strata::kernels::avx512 {
namespace {

constexpr std::size_t kLanes = 16;

/// The 16 virtual lanes: 0-7 and 8-15.
struct Sums {
  __m512d low = _mm512_setzero_pd();
  __m512d high = _mm512_setzero_pd();

  void add_squares(__m512 x) {
    const __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(x));
    const __m512d b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    low = _mm512_add_pd(low, _mm512_mul_pd(a, a));
    high = _mm512_add_pd(high, _mm512_mul_pd(b, b));
  }

  /// The tree of kernels.hpp: halves of 8, 4, 2, 1 lanes.
  [[nodiscard]] double total() const {
    const __m512d eight = _mm512_add_pd(low, high);
    const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd(eight, 1));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    const double sum = _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
    return sum == sum ? sum : __builtin_nan("");
  }
};

template <class T>
double sum_squares(const T* from, std::size_t n) {
  Sums sums;
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sums.add_squares(load(from + i));
  // Masked lanes add +0, which changes no sum of squares.
  if (i < n) sums.add_squares(load_masked(from + i, mask_of(n - i)));
  return sums.total();
}

}  // namespace

double sum_squares_fp32(const float* from, std::size_t n) {
  return sum_squares(from, n);
}
double sum_squares_bf16(const std::uint16_t* from, std::size_t n) {
  return sum_squares(from, n);
}

}  // namespace strata::kernels::avx512
