// Causal attention over heads, shared by the models.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/model.hpp"

namespace strata::model {

struct AttentionOptions {
  double scale = 1.0;    ///< on the scores, before softmax
  double dropout = 0.0;  ///< on the probabilities
};

/// `query` [batch, heads, sequence, head], `key` and `value` [batch, key_value_heads, sequence, head], heads a multiple
/// of key_value_heads. Gives [batch, sequence, heads x head]. Without dropout it is LibTorch's fused attention, which
/// keeps no scores; with dropout the scores exist, sequence^2 per head.
[[nodiscard]] at::Tensor causal_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                          const AttentionOptions& options, const StageContext& context);

}  // namespace strata::model
