// How many bytes of activations a micro-batch needs on the device.
#pragma once

#include <cstdint>

#include "model/model.hpp"
#include "model/model_config.hpp"

namespace strata::model {

[[nodiscard]] ActivationEstimate estimate_gpt2(const Gpt2Config& config, std::int64_t batch, std::int64_t sequence,
                                               DType type);
[[nodiscard]] ActivationEstimate estimate_llama(const LlamaConfig& config, std::int64_t batch, std::int64_t sequence,
                                                DType type);

}  // namespace strata::model
