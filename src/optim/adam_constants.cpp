#include <cmath>

#include "base/check.hpp"
#include "optim/cpu_optimizer.hpp"

namespace strata::optim {

kernels::AdamConstants adam_constants(const AdamSettings& settings, std::uint64_t applied_step, float grad_factor) {
  STRATA_CHECK(applied_step >= 1, "the first applied step is 1");
  double bias1 = 1;
  double bias2 = 1;
  if (settings.bias_correction == BiasCorrection::kOn) {
    const double t = static_cast<double>(applied_step);
    bias1 = 1 - std::pow(settings.beta1, t);
    bias2 = 1 - std::pow(settings.beta2, t);
  }
  const bool decoupled = settings.mode == AdamMode::kAdamW;
  return {.grad_factor = grad_factor,
          .one_minus_beta1 = static_cast<float>(1 - settings.beta1),
          .beta2 = static_cast<float>(settings.beta2),
          .one_minus_beta2 = static_cast<float>(1 - settings.beta2),
          .eps = static_cast<float>(settings.eps),
          .step_size = static_cast<float>(settings.lr / bias1),
          .inv_bias2_sqrt = static_cast<float>(1 / std::sqrt(bias2)),
          .decay_factor = decoupled ? static_cast<float>(1 - settings.lr * settings.weight_decay) : 1.0F,
          .l2 = decoupled ? 0.0F : static_cast<float>(settings.weight_decay)};
}

}  // namespace strata::optim
