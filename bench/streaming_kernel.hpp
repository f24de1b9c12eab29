// What memory allows: kernels that move the same bytes as one fused Adam pass and compute next to nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace strata::bench {

/// Reads and writes each of three fp32 arrays in place; reads a gradient of fp32 or bf16; writes a bf16 array unless
/// `copy` is null. 28 bytes per element with a bf16 gradient and a copy, 28 with an fp32 gradient and none.
struct StreamBlock {
  float* a;
  float* b;
  float* c;
  const float* gradient32;          ///< this one
  const std::uint16_t* gradient16;  ///< or this one
  std::uint16_t* copy;
  std::size_t n;
};

void stream_scalar(const StreamBlock& block);
/// AVX-512: call it only where the CPU has it. `n` is a multiple of 32, `copy` is aligned to 64 bytes.
void stream_avx512(const StreamBlock& block);

}  // namespace strata::bench
