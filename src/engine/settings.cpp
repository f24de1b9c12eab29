#include "engine/settings.hpp"

namespace strata::engine {

optim::LrScheduleSettings schedule_of(const Config& config) {
  const SchedulerConfig& from = config.scheduler;
  optim::LrScheduleSettings to;
  switch (from.type) {
    case SchedulerType::kNone: to.kind = optim::LrScheduleKind::kConstant; break;
    case SchedulerType::kWarmupLR: to.kind = optim::LrScheduleKind::kWarmup; break;
    case SchedulerType::kWarmupDecayLR: to.kind = optim::LrScheduleKind::kWarmupDecay; break;
    case SchedulerType::kWarmupCosineLR: to.kind = optim::LrScheduleKind::kWarmupCosine; break;
  }
  to.base_lr = config.optimizer.lr;
  to.warmup_min_lr = from.warmup_min_lr;
  to.warmup_max_lr = from.warmup_max_lr;
  to.warmup_num_steps = from.warmup_num_steps;
  to.curve = from.warmup_type == WarmupShape::kLog ? optim::WarmupCurve::kLog : optim::WarmupCurve::kLinear;
  to.total_num_steps = from.total_num_steps;
  to.warmup_min_ratio = from.warmup_min_ratio;
  to.cos_min_ratio = from.cos_min_ratio;
  return to;
}

optim::AdamSettings adam_settings_of(const Config& config, double lr) {
  optim::AdamSettings settings;
  settings.lr = lr;
  settings.beta1 = config.optimizer.beta1;
  settings.beta2 = config.optimizer.beta2;
  settings.eps = config.optimizer.eps;
  settings.weight_decay = config.optimizer.weight_decay;
  // DeepSpeed: "Adam" decouples the decay too, unless adam_w_mode is false.
  settings.mode = config.optimizer.type == OptimizerType::kAdamW || config.optimizer.adam_w_mode
                      ? optim::AdamMode::kAdamW
                      : optim::AdamMode::kAdam;
  settings.bias_correction =
      config.optimizer.bias_correction ? optim::BiasCorrection::kOn : optim::BiasCorrection::kOff;
  return settings;
}

}  // namespace strata::engine
