#include "bench/streaming_kernel.hpp"

namespace strata::bench {

void stream_scalar(const StreamBlock& block) {
  float* __restrict a = block.a;
  float* __restrict b = block.b;
  float* __restrict c = block.c;
  std::uint16_t* __restrict copy = block.copy;
  if (block.gradient32 != nullptr) {
    const float* __restrict gradient = block.gradient32;
    for (std::size_t i = 0; i < block.n; ++i) {
      a[i] += gradient[i];
      b[i] += 1.0F;
      c[i] += 1.0F;
    }
    return;
  }
  const std::uint16_t* __restrict gradient = block.gradient16;
  for (std::size_t i = 0; i < block.n; ++i) {
    a[i] += 1.0F;
    b[i] += 1.0F;
    c[i] += 1.0F;
    copy[i] = gradient[i];
  }
}

}  // namespace strata::bench
