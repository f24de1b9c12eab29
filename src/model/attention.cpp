#include "model/attention.hpp"

#include <limits>

#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>

#include "base/check.hpp"
#include "model/dropout.hpp"

namespace strata::model {
namespace {

/// Each key-value head serves a group of query heads. An explicit copy keeps the fused kernels of every device usable.
at::Tensor repeat_heads(const at::Tensor& heads, std::int64_t times) {
  if (times == 1) return heads;
  const auto batch = heads.size(0), count = heads.size(1), sequence = heads.size(2), size = heads.size(3);
  return heads.unsqueeze(2)
      .expand({batch, count, times, sequence, size})
      .reshape({batch, count * times, sequence, size});
}

at::Tensor attention_with_dropout(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                  const AttentionOptions& options, const StageContext& context) {
  const auto sequence = query.size(2);
  const auto future = at::ones({sequence, sequence}, query.options().dtype(at::kBool)).triu_(1);
  const auto scores = at::matmul(query, key.transpose(-2, -1))
                          .mul(options.scale)
                          .masked_fill(future, -std::numeric_limits<double>::infinity());
  const auto weights = at::softmax(scores, -1, at::kFloat).to(query.scalar_type());
  return at::matmul(dropout(weights, options.dropout, context, DropoutSite::kAttention), value);
}

}  // namespace

at::Tensor causal_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                            const AttentionOptions& options, const StageContext& context) {
  STRATA_CHECK(query.size(1) % key.size(1) == 0, "query heads are a multiple of key-value heads");
  const auto groups = query.size(1) / key.size(1);
  const auto keys = repeat_heads(key, groups);
  const auto values = repeat_heads(value, groups);
  const bool drops = options.dropout > 0.0 && context.mode == StageContext::Mode::kTrain;
  const auto mixed = drops ? attention_with_dropout(query, keys, values, options, context)
                           : at::scaled_dot_product_attention(query, keys, values, /*attn_mask=*/{}, /*dropout_p=*/0.0,
                                                              /*is_causal=*/true, options.scale);
  return mixed.transpose(1, 2).reshape({query.size(0), query.size(2), query.size(1) * query.size(3)});
}

}  // namespace strata::model
