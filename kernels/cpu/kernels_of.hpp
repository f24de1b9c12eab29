// The kernels of each instruction set, for the dispatch table alone. Files compiled with extra instructions include
// this and <immintrin.h> only: an inline function of any other header could be emitted with those instructions, and
// the linker might keep that copy for the whole program.
#pragma once

#include "kernels/kernels.hpp"

#define STRATA_DECLARE_KERNELS                                             \
  void adam_fp32(const AdamConstants&, const AdamBlock&);                  \
  void adam_bf16(const AdamConstants&, const AdamBlock&);                  \
  double sum_squares_fp32(const float*, std::size_t n);                    \
  double sum_squares_bf16(const std::uint16_t*, std::size_t n);            \
  void round_to_bf16(const float* from, std::uint16_t* to, std::size_t n); \
  void widen_bf16(const std::uint16_t* from, float* to, std::size_t n);    \
  void add_fp32(const float* from, float* sum, std::size_t n);             \
  void add_bf16_to_fp32(const std::uint16_t* from, float* sum, std::size_t n);

namespace strata::kernels::scalar {
STRATA_DECLARE_KERNELS
}
namespace strata::kernels::avx512 {
STRATA_DECLARE_KERNELS
}

#undef STRATA_DECLARE_KERNELS
