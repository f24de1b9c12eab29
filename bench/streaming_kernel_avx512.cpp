#include <immintrin.h>

#include "bench/streaming_kernel.hpp"

namespace strata::bench {
namespace {

constexpr std::size_t kAhead = 512;

inline void touch(float* at, __m512 add) {
  _mm_prefetch(reinterpret_cast<const char*>(at + kAhead), _MM_HINT_T0);
  _mm_prefetch(reinterpret_cast<const char*>(at + kAhead + 16), _MM_HINT_T0);
  _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), add));
  _mm512_storeu_ps(at + 16, _mm512_add_ps(_mm512_loadu_ps(at + 16), add));
}

}  // namespace

void stream_avx512(const StreamBlock& block) {
  const __m512 one = _mm512_set1_ps(1.0F);
  for (std::size_t i = 0; i < block.n; i += 32) {
    __m512 add = one;
    if (block.gradient32 != nullptr) {
      _mm_prefetch(reinterpret_cast<const char*>(block.gradient32 + i + kAhead), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(block.gradient32 + i + kAhead + 16), _MM_HINT_T0);
      add = _mm512_add_ps(_mm512_loadu_ps(block.gradient32 + i), _mm512_loadu_ps(block.gradient32 + i + 16));
    } else {
      _mm_prefetch(reinterpret_cast<const char*>(block.gradient16 + i + kAhead), _MM_HINT_T0);
      const __m512i gradient = _mm512_loadu_si512(block.gradient16 + i);
      _mm512_stream_si512(reinterpret_cast<__m512i*>(block.copy + i), gradient);
    }
    touch(block.a + i, add);
    touch(block.b + i, add);
    touch(block.c + i, add);
  }
  _mm_sfence();
}

}  // namespace strata::bench
