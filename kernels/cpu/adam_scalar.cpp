#include <cmath>

#include "kernels/cpu/element.hpp"
#include "kernels/cpu/kernels_of.hpp"

namespace strata::kernels::scalar {
namespace {

enum class Decay : std::uint8_t { kDecoupled, kL2 };
enum class Copy : std::uint8_t { kNone, kBf16 };

template <class Gradient, Decay kDecay, Copy kCopy>
void adam(const AdamConstants& constants, const AdamBlock& block) {
  // Copies that nothing can point to, so that the loop can be vectorised.
  const AdamConstants c = constants;
  float* __restrict master = block.master;
  float* __restrict exp_avg = block.exp_avg;
  float* __restrict exp_avg_sq = block.exp_avg_sq;
  const Gradient* __restrict gradient = static_cast<const Gradient*>(block.gradient);
  std::uint16_t* __restrict parameter16 = block.parameter16;
  const std::size_t n = block.n;
  for (std::size_t i = 0; i < n; ++i) {
    float p = master[i];
    float g = widen(gradient[i]) * c.grad_factor;
    if constexpr (kDecay == Decay::kL2) g = g + c.l2 * p;
    float m = exp_avg[i];
    m = m + (g - m) * c.one_minus_beta1;
    const float v = exp_avg_sq[i] * c.beta2 + (c.one_minus_beta2 * g) * g;
    const float denominator = std::sqrt(v) * c.inv_bias2_sqrt + c.eps;
    p = canonical(p * c.decay_factor - (c.step_size * m) / denominator);
    exp_avg[i] = canonical(m);
    exp_avg_sq[i] = canonical(v);
    master[i] = p;
    if constexpr (kCopy == Copy::kBf16) parameter16[i] = round_bf16(p);
  }
}

template <class Gradient>
void choose(const AdamConstants& constants, const AdamBlock& block) {
  const bool copies = block.parameter16 != nullptr;
  // Not a multiplication by zero: 0 * inf would poison the gradient, and -0 would become +0.
  if (constants.l2 != 0) {
    copies ? adam<Gradient, Decay::kL2, Copy::kBf16>(constants, block)
           : adam<Gradient, Decay::kL2, Copy::kNone>(constants, block);
  } else {
    copies ? adam<Gradient, Decay::kDecoupled, Copy::kBf16>(constants, block)
           : adam<Gradient, Decay::kDecoupled, Copy::kNone>(constants, block);
  }
}

}  // namespace

void adam_fp32(const AdamConstants& constants, const AdamBlock& block) {
  choose<float>(constants, block);
}
void adam_bf16(const AdamConstants& constants, const AdamBlock& block) {
  choose<std::uint16_t>(constants, block);
}

}  // namespace strata::kernels::scalar
