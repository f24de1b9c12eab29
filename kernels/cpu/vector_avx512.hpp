// Sixteen elements at a time: what the AVX-512 kernels are made of. Included only by files that are compiled for
// AVX-512; everything is in an unnamed namespace, so that no other file can come to link these copies.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace strata::kernels::avx512 {
namespace {

/// The first `count` of 16 lanes, count <= 16.
[[maybe_unused]] inline __mmask16 mask_of(std::size_t count) {
  return static_cast<__mmask16>((1u << count) - 1u);
}

[[maybe_unused]] inline __m512 canonical(__m512 x) {
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_castsi512_ps(_mm512_mask_mov_epi32(_mm512_castps_si512(x), nan, _mm512_set1_epi32(0x7fc00000)));
}

[[maybe_unused]] inline __m512 widen(__m256i x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

[[maybe_unused]] inline __m512 load(const float* from) {
  return _mm512_loadu_ps(from);
}
[[maybe_unused]] inline __m512 load(const std::uint16_t* from) {
  return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
[[maybe_unused]] inline __m512 load_masked(const float* from, __mmask16 mask) {
  return _mm512_maskz_loadu_ps(mask, from);
}
[[maybe_unused]] inline __m512 load_masked(const std::uint16_t* from, __mmask16 mask) {
  return widen(_mm256_maskz_loadu_epi16(mask, from));
}

/// bits + 0x8000: the upper half of each result is the bf16. `x` has canonical NaNs only (0x7fc08000 stays a NaN).
[[maybe_unused]] inline __m512i rounded(__m512 x) {
  return _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
}

/// The upper halves of 32 rounded values, in order. `x` and `y` have canonical NaNs only.
[[maybe_unused]] inline __m512i pair_to_bf16(__m512 x, __m512 y) {
  const __m512i odd_words = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33,  //
                                             31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  return _mm512_permutex2var_epi16(rounded(x), odd_words, rounded(y));
}

[[maybe_unused]] inline void store_bf16_masked(std::uint16_t* to, __mmask16 mask, __m512 x) {
  _mm256_mask_storeu_epi16(to, mask, _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded(x), 16)));
}

}  // namespace
}  // namespace strata::kernels::avx512
