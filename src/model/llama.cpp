#include "model/llama.hpp"

#include <cmath>
#include <optional>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>
#include <fmt/format.h>

#include "base/check.hpp"
#include "model/attention.hpp"
#include "model/estimate.hpp"
#include "model/loss.hpp"
#include "model/stage_list.hpp"

namespace strata::model {
namespace {

constexpr InitRule kOnes{InitRule::Kind::kOnes, 0.0};
constexpr InitRule kZeros{InitRule::Kind::kZeros, 0.0};

enum class Bias : std::uint8_t { kWithout, kWith };

Bias bias_if(bool present) {
  return present ? Bias::kWith : Bias::kWithout;
}

UnitSpec block_unit(const LlamaConfig& config, std::int64_t layer) {
  const InitRule normal{InitRule::Kind::kNormal, config.initializer_range};
  const auto h = config.hidden;
  const auto queries = config.heads * config.head_size;
  const auto keys = config.key_value_heads * config.head_size;
  UnitSpec unit{fmt::format("model.layers.{}", layer), {}};
  const auto attention_bias = bias_if(config.attention_bias), mlp_bias = bias_if(config.mlp_bias);
  const auto projection = [&](const char* name, std::int64_t out, std::int64_t in, Bias bias) {
    unit.parameters.push_back({fmt::format("{}.{}.weight", unit.name, name), {out, in}, normal});
    if (bias == Bias::kWith) unit.parameters.push_back({fmt::format("{}.{}.bias", unit.name, name), {out}, kZeros});
  };
  projection("self_attn.q_proj", queries, h, attention_bias);
  projection("self_attn.k_proj", keys, h, attention_bias);
  projection("self_attn.v_proj", keys, h, attention_bias);
  projection("self_attn.o_proj", h, queries, attention_bias);
  projection("mlp.gate_proj", config.inner, h, mlp_bias);
  projection("mlp.up_proj", config.inner, h, mlp_bias);
  projection("mlp.down_proj", h, config.inner, mlp_bias);
  unit.parameters.push_back({unit.name + ".input_layernorm.weight", {h}, kOnes});
  unit.parameters.push_back({unit.name + ".post_attention_layernorm.weight", {h}, kOnes});
  return unit;
}

std::vector<UnitSpec> make_units(const LlamaConfig& config) {
  const InitRule normal{InitRule::Kind::kNormal, config.initializer_range};
  std::vector<UnitSpec> units;
  units.push_back({"embedding", {{"model.embed_tokens.weight", {config.vocabulary, config.hidden}, normal}}});
  for (std::int64_t layer = 0; layer < config.layers; ++layer) units.push_back(block_unit(config, layer));
  UnitSpec head{"head", {{"model.norm.weight", {config.hidden}, kOnes}}};
  if (!config.tied) head.parameters.push_back({"lm_head.weight", {config.vocabulary, config.hidden}, normal});
  units.push_back(std::move(head));
  return units;
}

/// Root mean square norm (Zhang, Sennrich 2019): in fp32, cast back, then scaled by the weight in the model's type.
at::Tensor rms_norm(const at::Tensor& input, const at::Tensor& weight, double epsilon) {
  const auto wide = input.to(at::kFloat);
  const auto variance = wide.pow(2).mean(-1, /*keepdim=*/true);
  return weight.mul(wide.mul(at::rsqrt(variance.add(epsilon))).to(input.scalar_type()));
}

/// Cosines and sines [sequence, head_size / 2] of the rotary embedding, computed in fp32.
struct RotaryTable {
  at::Tensor cosine;
  at::Tensor sine;

  RotaryTable(std::int64_t sequence, std::int64_t head_size, double theta, const at::TensorOptions& options) {
    const auto wide = options.dtype(at::kFloat);
    const auto exponent = at::arange(0, head_size, 2, wide).div(static_cast<double>(head_size));
    const auto angles = at::outer(at::arange(sequence, wide), at::pow(theta, exponent).reciprocal());
    cosine = angles.cos().to(options.dtype());
    sine = angles.sin().to(options.dtype());
  }
};

/// Turns each pair (i, i + head_size / 2), the convention of transformers, in `heads` [batch, heads, sequence, head].
at::Tensor rotate(const at::Tensor& heads, const RotaryTable& table) {
  const auto half = heads.size(-1) / 2;
  const auto first = heads.narrow(-1, 0, half);
  const auto second = heads.narrow(-1, half, half);
  return at::cat(
      {first.mul(table.cosine).sub(second.mul(table.sine)), second.mul(table.cosine).add(first.mul(table.sine))}, -1);
}

/// Takes a block's parameters in the order of its unit.
class ParameterCursor {
 public:
  explicit ParameterCursor(std::span<const at::Tensor> parameters) : rest_(parameters) {}

  const at::Tensor& next() {
    STRATA_CHECK(!rest_.empty(), "parameters of a block");
    const auto& first = rest_.front();
    rest_ = rest_.subspan(1);
    return first;
  }

 private:
  std::span<const at::Tensor> rest_;
};

struct Projection {
  at::Tensor weight;
  std::optional<at::Tensor> bias;

  Projection(ParameterCursor& cursor, Bias has_bias) : weight(cursor.next()) {
    if (has_bias == Bias::kWith) bias = cursor.next();
  }
  [[nodiscard]] at::Tensor operator()(const at::Tensor& input) const { return at::linear(input, weight, bias); }
};

class Llama final : public Model {
 public:
  explicit Llama(const LlamaConfig& config)
      : config_(config),
        units_(make_units(config)),
        stages_(make_stages(units_, config.tied ? HeadWeight::kTied : HeadWeight::kOwn)) {}

  [[nodiscard]] const std::vector<UnitSpec>& units() const override { return units_; }
  [[nodiscard]] const std::vector<StageSpec>& stages() const override { return stages_; }
  [[nodiscard]] std::string name() const override { return "llama"; }
  [[nodiscard]] std::int64_t vocabulary() const override { return config_.vocabulary; }
  [[nodiscard]] std::int64_t hidden_size() const override { return config_.hidden; }
  [[nodiscard]] std::int64_t max_positions() const override { return config_.positions; }

  [[nodiscard]] at::Tensor run_stage(std::size_t stage, std::span<const at::Tensor> parameters, const at::Tensor& input,
                                     const at::Tensor& targets, const StageContext& context) const override {
    check_stage(*this, stage, parameters.size());
    if (stage == 0) {
      check_ids(input, config_.positions);
      return at::embedding(parameters[0], input);
    }
    if (stage + 1 == stages_.size()) return head(parameters, input, targets);
    return block(parameters, input, context);
  }

  [[nodiscard]] ActivationEstimate activation_estimate(std::int64_t batch, std::int64_t sequence,
                                                       DType type) const override {
    return estimate_llama(config_, batch, sequence, type);
  }

 private:
  [[nodiscard]] at::Tensor split_heads(const at::Tensor& rows, std::int64_t heads) const {
    return rows.view({rows.size(0), rows.size(1), heads, config_.head_size}).transpose(1, 2);
  }

  [[nodiscard]] at::Tensor block(std::span<const at::Tensor> parameters, const at::Tensor& input,
                                 const StageContext& context) const {
    const auto attention_bias = bias_if(config_.attention_bias), mlp_bias = bias_if(config_.mlp_bias);
    ParameterCursor cursor(parameters);
    const Projection query(cursor, attention_bias), key(cursor, attention_bias), value(cursor, attention_bias),
        output(cursor, attention_bias);
    const Projection gate(cursor, mlp_bias), up(cursor, mlp_bias), down(cursor, mlp_bias);
    const auto& norm1 = cursor.next();
    const auto& norm2 = cursor.next();

    const auto normed = rms_norm(input, norm1, config_.norm_epsilon);
    const RotaryTable table(input.size(1), config_.head_size, config_.rope_theta, input.options());
    const AttentionOptions options{.scale = 1.0 / std::sqrt(static_cast<double>(config_.head_size)),
                                   .dropout = config_.attention_dropout};
    const auto mixed = causal_attention(rotate(split_heads(query(normed), config_.heads), table),
                                        rotate(split_heads(key(normed), config_.key_value_heads), table),
                                        split_heads(value(normed), config_.key_value_heads), options, context);
    const auto attended = input.add(output(mixed));
    const auto wide = rms_norm(attended, norm2, config_.norm_epsilon);
    return attended.add(down(at::silu(gate(wide)).mul(up(wide))));
  }

  [[nodiscard]] at::Tensor head(std::span<const at::Tensor> parameters, const at::Tensor& input,
                                const at::Tensor& targets) const {
    // The norm's weight, then either lm_head.weight or, tied, the embedding's token weight.
    const auto normed = rms_norm(input, parameters[0], config_.norm_epsilon).view({-1, config_.hidden});
    return cross_entropy(at::linear(normed, parameters[1]), targets.reshape({-1}));
  }

  LlamaConfig config_;
  std::vector<UnitSpec> units_;
  std::vector<StageSpec> stages_;
};

}  // namespace

std::unique_ptr<Model> make_llama(const LlamaConfig& config) {
  return std::make_unique<Llama>(config);
}

}  // namespace strata::model
