#include "optim/lr_schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace strata::optim {
namespace {

constexpr double kDecayMaxLr = 1e-3;  // WarmupDecayLR's own default

struct Progress {
  double index;
  double warmup;
  double total;
};

/// Rises from 0 at index 0 to 1 near index = warmup. Operations as DeepSpeed's, so that the doubles are equal.
double warmup_factor(const Progress& at, WarmupCurve curve) {
  if (curve == WarmupCurve::kLinear) return at.index / at.warmup;
  return (1.0 / std::log(at.warmup)) * std::log(at.index + 1);
}

double linear_decay(const Progress& at) {
  return std::max(0.0, (at.total - at.index) / std::max(1.0, at.total - at.warmup));
}

double cosine_decay(const Progress& at, double floor) {
  const double progress = std::min(1.0, (at.index - at.warmup + 1) / std::max(1.0, at.total - at.warmup));
  return std::max(0.0, floor + (1.0 - floor) * ((1 + std::cos(std::numbers::pi * progress)) / 2));
}

}  // namespace

double lr_at(const LrScheduleSettings& settings, std::uint64_t applied_steps) {
  if (settings.kind == LrScheduleKind::kConstant) return settings.base_lr;
  const bool cosine = settings.kind == LrScheduleKind::kWarmupCosine;
  if (applied_steps == 0) return cosine ? 0.0 : settings.warmup_min_lr;

  const Progress at = {.index = static_cast<double>(applied_steps - 1),
                       .warmup = static_cast<double>(std::max<std::uint64_t>(2, settings.warmup_num_steps)),
                       .total = static_cast<double>(settings.total_num_steps)};
  const bool warming = at.index < at.warmup;
  if (cosine) {
    const double ratio =
        warming ? settings.warmup_min_ratio + warmup_factor(at, settings.curve) * (1.0 - settings.warmup_min_ratio)
                : cosine_decay(at, settings.cos_min_ratio);
    return settings.base_lr * ratio;
  }
  const bool decays = settings.kind == LrScheduleKind::kWarmupDecay;
  const double max_lr = settings.warmup_max_lr.value_or(decays ? kDecayMaxLr : settings.base_lr);
  double gamma = 1.0;
  if (warming) {
    gamma = warmup_factor(at, settings.curve);
  } else if (decays) {
    gamma = linear_decay(at);
  }
  return settings.warmup_min_lr + (max_lr - settings.warmup_min_lr) * gamma;
}

}  // namespace strata::optim
