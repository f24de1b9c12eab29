#include "config/auto_fill.hpp"

#include <cmath>

namespace strata::config {
namespace {

using nlohmann::json;

/// Bucket sizes as functions of the hidden size h; h is bounded so that h * h stays exact.
Filled from_hidden_size(const LoadOptions& options, double factor, int power) {
  if (!options.hidden_size) return {nullptr, "DeepSpeed's default until the model's hidden size is known"};
  const double h = static_cast<double>(*options.hidden_size);
  const double value = std::floor(factor * std::pow(h, power));
  if (!(value < 0x1p53)) return {nullptr, "the hidden size is too large: DeepSpeed's default"};
  return {static_cast<std::uint64_t>(value), "from the model's hidden size"};
}

}  // namespace

Filled auto_value(const LoadOptions& options, AutoFill what) {
  const AutoValues& values = options.auto_values;
  const std::string trainer = "as Hugging Face's Trainer fills it";
  switch (what) {
    case AutoFill::kNone: return {nullptr, {}};
    case AutoFill::kTrainBatch: return {nullptr, "micro-batch x accumulation x ranks"};
    case AutoFill::kMicroBatch: return {values.micro_batch, trainer};
    case AutoFill::kAccumulation: return {values.accumulation, trainer};
    case AutoFill::kClipping: return {values.max_grad_norm, trainer};
    case AutoFill::kLr:
    case AutoFill::kWarmupMaxLr: return {values.lr, trainer};
    case AutoFill::kBetas: return {json::array({values.beta1, values.beta2}), trainer};
    case AutoFill::kEps: return {values.eps, trainer};
    case AutoFill::kWeightDecay: return {values.weight_decay, trainer};
    case AutoFill::kWarmupMinLr: return {0, trainer};
    case AutoFill::kWarmupSteps:
      return {values.warmup_steps, values.warmup_steps < 2 ? trainer + ", taken as 2" : trainer};
    case AutoFill::kTotalSteps:
      if (!options.total_steps) return {nullptr, "filled with the number of steps of the run"};
      return {*options.total_steps, "the number of steps of the run"};
    case AutoFill::kBf16: return {values.precision == Precision::kBf16, trainer};
    case AutoFill::kFp16: return {false, trainer};
    case AutoFill::kReduceBucket: return from_hidden_size(options, 1, 2);
    case AutoFill::kPrefetchBucket: return from_hidden_size(options, 0.9, 2);
    case AutoFill::kPersistence: return from_hidden_size(options, 10, 1);
  }
  return {nullptr, {}};
}

}  // namespace strata::config
