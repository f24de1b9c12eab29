// Learning-rate schedules as pure functions of the number of applied steps: nothing to save, nothing to restore.
#pragma once

#include <cstdint>
#include <optional>

namespace strata::optim {

enum class LrScheduleKind : std::uint8_t { kConstant, kWarmup, kWarmupDecay, kWarmupCosine };
enum class WarmupCurve : std::uint8_t { kLog, kLinear };

/// DeepSpeed's `scheduler.params`, for one parameter group.
struct LrScheduleSettings {
  LrScheduleKind kind = LrScheduleKind::kConstant;
  double base_lr = 1e-3;                               ///< the group's `lr` in the optimizer section
  double warmup_min_lr = 0;                            ///< kWarmup, kWarmupDecay
  std::optional<double> warmup_max_lr = std::nullopt;  ///< kWarmup: none = base_lr; kWarmupDecay: none = 0.001
  std::uint64_t warmup_num_steps = 1000;               ///< taken as 2 when less
  WarmupCurve curve = WarmupCurve::kLog;
  std::uint64_t total_num_steps = 0;  ///< kWarmupDecay, kWarmupCosine
  double warmup_min_ratio = 0;        ///< kWarmupCosine, of base_lr
  double cos_min_ratio = 1e-4;        ///< kWarmupCosine, of base_lr
};

/// The learning rate of the step before which `applied_steps` steps were applied (skipped steps don't count).
///
/// As DeepSpeed's engine uses it (runtime/lr_schedules.py, runtime/engine.py `_take_model_step`): its schedulers start
/// with last_batch_iteration = -1, where the constructor sets warmup_min_lr (WarmupCosineLR: 0), and they step after
/// each applied optimizer step. So the first step uses that starting value, and the step after k >= 1 applied ones uses
/// index k - 1: formula(0) belongs to the second step.
[[nodiscard]] double lr_at(const LrScheduleSettings& settings, std::uint64_t applied_steps);

}  // namespace strata::optim
