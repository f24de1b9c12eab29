// Configuration values as the layers below want them. No torch.
#pragma once

#include "optim/cpu_optimizer.hpp"
#include "optim/lr_schedule.hpp"
#include "strata/config.hpp"

namespace strata::engine {

[[nodiscard]] optim::LrScheduleSettings schedule_of(const Config& config);
[[nodiscard]] optim::AdamSettings adam_settings_of(const Config& config, double lr);

}  // namespace strata::engine
