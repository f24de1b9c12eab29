#include <immintrin.h>

#include "kernels/cpu/kernels_of.hpp"
#include "kernels/cpu/vector_avx512.hpp"

namespace strata::kernels::avx512 {
namespace {

constexpr std::size_t kLanes = 16;

template <class From>
void add(const From* from, float* sum, std::size_t n) {
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    _mm512_storeu_ps(sum + i, canonical(_mm512_add_ps(_mm512_loadu_ps(sum + i), load(from + i))));
  }
  if (i == n) return;
  const __mmask16 mask = mask_of(n - i);
  const __m512 added = _mm512_add_ps(load_masked(sum + i, mask), load_masked(from + i, mask));
  _mm512_mask_storeu_ps(sum + i, mask, canonical(added));
}

}  // namespace

void round_to_bf16(const float* from, std::uint16_t* to, std::size_t n) {
  std::size_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    _mm512_storeu_si512(to + i, pair_to_bf16(canonical(load(from + i)), canonical(load(from + i + kLanes))));
  }
  while (i < n) {
    const std::size_t count = n - i < kLanes ? n - i : kLanes;
    store_bf16_masked(to + i, mask_of(count), canonical(load_masked(from + i, mask_of(count))));
    i += count;
  }
}

void widen_bf16(const std::uint16_t* from, float* to, std::size_t n) {
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) _mm512_storeu_ps(to + i, load(from + i));
  if (i < n) _mm512_mask_storeu_ps(to + i, mask_of(n - i), load_masked(from + i, mask_of(n - i)));
}

void add_fp32(const float* from, float* sum, std::size_t n) {
  add(from, sum, n);
}
void add_bf16_to_fp32(const std::uint16_t* from, float* sum, std::size_t n) {
  add(from, sum, n);
}

}  // namespace strata::kernels::avx512
