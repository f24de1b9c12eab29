// Dropout whose mask is a pure function of (key, site, sample, element).
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "model/model.hpp"

namespace strata::model {

/// The places of a unit where dropout stands; each draws its own mask.
enum class DropoutSite : std::uint64_t { kEmbedding, kAttention, kAttentionOutput, kMlpOutput };

/// Zeroes elements with `probability` in [0, 1) and scales the others by 1 / (1 - probability); in kEvaluate, or with
/// probability 0, gives the input back. Dimension 0 is the sample: a sample's mask doesn't depend on the batch size.
/// Masks are made on the CPU, so that every device sees the same ones.
[[nodiscard]] at::Tensor dropout(const at::Tensor& input, double probability, const StageContext& context,
                                 DropoutSite site);

}  // namespace strata::model
