// GPT-2 and Llama written out plainly in float64, head by head, from the published formulas: nothing is shared with the
// models under test but the names of the parameters.
#pragma once

#include <cmath>
#include <limits>
#include <map>
#include <numbers>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "model/model_config.hpp"

namespace strata::test {

using NamedTensors = std::map<std::string, at::Tensor>;

inline at::Tensor reference_softmax(const at::Tensor& scores) {
  const auto e = (scores - scores.amax(-1, true).detach()).exp();
  return e / e.sum(-1, true);
}

/// One head: [batch, sequence, head] each.
inline at::Tensor reference_head(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  const auto s = q.size(1);
  const auto hidden = at::ones({s, s}, at::kBool).triu(1);
  const auto scores =
      (at::matmul(q, k.transpose(1, 2)) * scale).masked_fill(hidden, -std::numeric_limits<double>::infinity());
  return at::matmul(reference_softmax(scores), v);
}

inline at::Tensor reference_loss(const at::Tensor& logits, const at::Tensor& targets) {
  const auto probability = reference_softmax(logits).gather(-1, targets.unsqueeze(-1));
  return -probability.log().mean();
}

inline at::Tensor reference_gpt2(const model::Gpt2Config& c, const NamedTensors& p, const at::Tensor& ids,
                                 const at::Tensor& targets) {
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    const auto centred = x - x.mean(-1, true);
    const auto variance = (centred * centred).mean(-1, true);
    return centred / (variance + c.layer_norm_epsilon).sqrt() * p.at(name + ".weight") + p.at(name + ".bias");
  };
  const auto conv = [&](const at::Tensor& x, const std::string& name) {
    return at::matmul(x, p.at(name + ".weight")) + p.at(name + ".bias");
  };
  const auto d = c.hidden / c.heads;
  auto x = p.at("transformer.wte.weight").index({ids}) +
           p.at("transformer.wpe.weight").slice(0, 0, ids.size(1)).unsqueeze(0);
  for (std::int64_t layer = 0; layer < c.layers; ++layer) {
    const auto name = "transformer.h." + std::to_string(layer);
    const auto qkv = conv(norm(x, name + ".ln_1"), name + ".attn.c_attn");
    double scale = c.scale_attention ? 1.0 / std::sqrt(static_cast<double>(d)) : 1.0;
    if (c.scale_by_inverse_layer) scale /= static_cast<double>(layer + 1);
    std::vector<at::Tensor> heads;
    for (std::int64_t h = 0; h < c.heads; ++h) {
      const auto part = [&](std::int64_t which) { return qkv.narrow(-1, which * c.hidden + h * d, d); };
      heads.push_back(reference_head(part(0), part(1), part(2), scale));
    }
    x = x + conv(at::cat(heads, -1), name + ".attn.c_proj");
    const auto wide = conv(norm(x, name + ".ln_2"), name + ".mlp.c_fc");
    const auto active =
        c.activation == model::Activation::kGeluTanh
            ? 0.5 * wide * (1.0 + (std::sqrt(2.0 / std::numbers::pi) * (wide + 0.044715 * wide * wide * wide)).tanh())
            : 0.5 * wide * (1.0 + (wide / std::numbers::sqrt2).erf());
    x = x + conv(active, name + ".mlp.c_proj");
  }
  const auto head = p.at(c.tied ? "transformer.wte.weight" : "lm_head.weight");
  return reference_loss(at::matmul(norm(x, "transformer.ln_f"), head.t()), targets);
}

/// Turns pairs (i, i + d / 2) of one head by position x theta^(-2 i / d).
inline at::Tensor reference_rope(const at::Tensor& x, double theta) {
  const auto s = x.size(1), d = x.size(2);
  auto cosine = at::empty({s, d / 2}, at::kDouble), sine = at::empty({s, d / 2}, at::kDouble);
  for (std::int64_t position = 0; position < s; ++position) {
    for (std::int64_t i = 0; i < d / 2; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(d);
      const double angle = static_cast<double>(position) * std::pow(theta, exponent);
      cosine.index_put_({position, i}, std::cos(angle));
      sine.index_put_({position, i}, std::sin(angle));
    }
  }
  const auto a = x.slice(2, 0, d / 2), b = x.slice(2, d / 2, d);
  return at::cat({a * cosine - b * sine, a * sine + b * cosine}, 2);
}

inline at::Tensor reference_llama(const model::LlamaConfig& c, const NamedTensors& p, const at::Tensor& ids,
                                  const at::Tensor& targets) {
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    return x / ((x * x).mean(-1, true) + c.norm_epsilon).sqrt() * p.at(name + ".weight");
  };
  const auto linear = [&](const at::Tensor& x, const std::string& name) {
    const auto y = at::matmul(x, p.at(name + ".weight").t());
    return p.contains(name + ".bias") ? y + p.at(name + ".bias") : y;
  };
  const auto d = c.head_size;
  auto x = p.at("model.embed_tokens.weight").index({ids});
  for (std::int64_t layer = 0; layer < c.layers; ++layer) {
    const auto name = "model.layers." + std::to_string(layer);
    const auto n = norm(x, name + ".input_layernorm");
    const auto q = linear(n, name + ".self_attn.q_proj"), k = linear(n, name + ".self_attn.k_proj"),
               v = linear(n, name + ".self_attn.v_proj");
    std::vector<at::Tensor> heads;
    for (std::int64_t h = 0; h < c.heads; ++h) {
      const auto shared = h / (c.heads / c.key_value_heads);
      heads.push_back(reference_head(reference_rope(q.narrow(-1, h * d, d), c.rope_theta),
                                     reference_rope(k.narrow(-1, shared * d, d), c.rope_theta),
                                     v.narrow(-1, shared * d, d), 1.0 / std::sqrt(static_cast<double>(d))));
    }
    x = x + linear(at::cat(heads, -1), name + ".self_attn.o_proj");
    const auto m = norm(x, name + ".post_attention_layernorm");
    const auto gate = linear(m, name + ".mlp.gate_proj");
    x = x + linear(gate / (1.0 + (-gate).exp()) * linear(m, name + ".mlp.up_proj"), name + ".mlp.down_proj");
  }
  const auto head = p.at(c.tied ? "model.embed_tokens.weight" : "lm_head.weight");
  return reference_loss(at::matmul(norm(x, "model.norm"), head.t()), targets);
}

}  // namespace strata::test
