#include "kernels/cpu/element.hpp"
#include "kernels/cpu/kernels_of.hpp"

namespace strata::kernels::scalar {
namespace {

template <class From>
void add(const From* __restrict from, float* __restrict sum, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) sum[i] = canonical(sum[i] + widen(from[i]));
}

}  // namespace

void round_to_bf16(const float* __restrict from, std::uint16_t* __restrict to, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) to[i] = round_bf16(from[i]);
}

void widen_bf16(const std::uint16_t* __restrict from, float* __restrict to, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) to[i] = widen(from[i]);
}

void add_fp32(const float* from, float* sum, std::size_t n) {
  add(from, sum, n);
}
void add_bf16_to_fp32(const std::uint16_t* from, float* sum, std::size_t n) {
  add(from, sum, n);
}

}  // namespace strata::kernels::scalar
