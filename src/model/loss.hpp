// The language model's loss.
#pragma once

#include <ATen/core/Tensor.h>

namespace strata::model {

/// Mean cross entropy in fp32 of `logits` [tokens, vocabulary] against `targets` [tokens] int64. Works by blocks of
/// rows and keeps the logits in their own type: no fp32 copy of them ever exists, forward or backward. Differentiable
/// once. Throws c10::Error for a target outside the vocabulary.
[[nodiscard]] at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& targets);

}  // namespace strata::model
