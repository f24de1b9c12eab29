#include "model/gpt2.hpp"

#include <cmath>

#include <ATen/ops/addmm.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <fmt/format.h>

#include "model/attention.hpp"
#include "model/dropout.hpp"
#include "model/estimate.hpp"
#include "model/loss.hpp"
#include "model/stage_list.hpp"

namespace strata::model {
namespace {

/// Places of a block's parameters in its unit.
enum BlockParameter : std::size_t {
  kNorm1Weight,
  kNorm1Bias,
  kAttentionWeight,
  kAttentionBias,
  kProjectionWeight,
  kProjectionBias,
  kNorm2Weight,
  kNorm2Bias,
  kExpandWeight,
  kExpandBias,
  kContractWeight,
  kContractBias,
  kBlockParameters
};

constexpr InitRule kOnes{InitRule::Kind::kOnes, 0.0};
constexpr InitRule kZeros{InitRule::Kind::kZeros, 0.0};

UnitSpec block_unit(const Gpt2Config& config, std::int64_t layer) {
  const InitRule normal{InitRule::Kind::kNormal, config.initializer_range};
  // Two residual additions per block: their sum keeps the variance of the stream at any depth.
  const InitRule residual{InitRule::Kind::kNormal,
                          config.initializer_range / std::sqrt(2.0 * static_cast<double>(config.layers))};
  const auto h = config.hidden;
  UnitSpec unit{fmt::format("transformer.h.{}", layer), {}};
  const auto add = [&](const char* name, std::vector<std::int64_t> shape, const InitRule& init) {
    unit.parameters.push_back({fmt::format("{}.{}", unit.name, name), std::move(shape), init});
  };
  add("ln_1.weight", {h}, kOnes);
  add("ln_1.bias", {h}, kZeros);
  add("attn.c_attn.weight", {h, 3 * h}, normal);
  add("attn.c_attn.bias", {3 * h}, kZeros);
  add("attn.c_proj.weight", {h, h}, residual);
  add("attn.c_proj.bias", {h}, kZeros);
  add("ln_2.weight", {h}, kOnes);
  add("ln_2.bias", {h}, kZeros);
  add("mlp.c_fc.weight", {h, config.inner}, normal);
  add("mlp.c_fc.bias", {config.inner}, kZeros);
  add("mlp.c_proj.weight", {config.inner, h}, residual);
  add("mlp.c_proj.bias", {h}, kZeros);
  return unit;
}

std::vector<UnitSpec> make_units(const Gpt2Config& config) {
  const InitRule normal{InitRule::Kind::kNormal, config.initializer_range};
  std::vector<UnitSpec> units;
  units.push_back({"embedding",
                   {{"transformer.wte.weight", {config.vocabulary, config.hidden}, normal},
                    {"transformer.wpe.weight", {config.positions, config.hidden}, normal}}});
  for (std::int64_t layer = 0; layer < config.layers; ++layer) units.push_back(block_unit(config, layer));
  UnitSpec head{
      "head",
      {{"transformer.ln_f.weight", {config.hidden}, kOnes}, {"transformer.ln_f.bias", {config.hidden}, kZeros}}};
  if (!config.tied) head.parameters.push_back({"lm_head.weight", {config.vocabulary, config.hidden}, normal});
  units.push_back(std::move(head));
  return units;
}

/// transformers' Conv1D: the weight is [in, out].
at::Tensor conv1d(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) {
  const auto rows = input.reshape({-1, input.size(-1)});
  return at::addmm(bias, rows, weight).view({input.size(0), input.size(1), weight.size(1)});
}

class Gpt2 final : public Model {
 public:
  explicit Gpt2(const Gpt2Config& config)
      : config_(config),
        units_(make_units(config)),
        stages_(make_stages(units_, config.tied ? HeadWeight::kTied : HeadWeight::kOwn)) {}

  [[nodiscard]] const std::vector<UnitSpec>& units() const override { return units_; }
  [[nodiscard]] const std::vector<StageSpec>& stages() const override { return stages_; }
  [[nodiscard]] std::string name() const override { return "gpt2"; }
  [[nodiscard]] std::int64_t vocabulary() const override { return config_.vocabulary; }
  [[nodiscard]] std::int64_t hidden_size() const override { return config_.hidden; }
  [[nodiscard]] std::int64_t max_positions() const override { return config_.positions; }

  [[nodiscard]] at::Tensor run_stage(std::size_t stage, std::span<const at::Tensor> parameters, const at::Tensor& input,
                                     const at::Tensor& targets, const StageContext& context) const override {
    check_stage(*this, stage, parameters.size());
    if (stage == 0) return embed(parameters, input, context);
    if (stage + 1 == stages_.size()) return head(parameters, input, targets);
    return block(static_cast<std::int64_t>(stage) - 1, parameters, input, context);
  }

  [[nodiscard]] ActivationEstimate activation_estimate(std::int64_t batch, std::int64_t sequence,
                                                       DType type) const override {
    return estimate_gpt2(config_, batch, sequence, type);
  }

 private:
  [[nodiscard]] at::Tensor embed(std::span<const at::Tensor> parameters, const at::Tensor& ids,
                                 const StageContext& context) const {
    check_ids(ids, config_.positions);
    const auto positions = parameters[1].narrow(0, 0, ids.size(1));
    return dropout(at::embedding(parameters[0], ids).add(positions), config_.embedding_dropout, context,
                   DropoutSite::kEmbedding);
  }

  [[nodiscard]] at::Tensor attention(std::int64_t layer, std::span<const at::Tensor> parameters,
                                     const at::Tensor& input, const StageContext& context) const {
    const auto head_size = config_.hidden / config_.heads;
    AttentionOptions options{.scale = 1.0, .dropout = config_.attention_dropout};
    if (config_.scale_attention) options.scale = 1.0 / std::sqrt(static_cast<double>(head_size));
    if (config_.scale_by_inverse_layer) options.scale /= static_cast<double>(layer + 1);
    const auto mixed = conv1d(input, parameters[kAttentionWeight], parameters[kAttentionBias])
                           .view({input.size(0), input.size(1), 3, config_.heads, head_size})
                           .permute({2, 0, 3, 1, 4});
    const auto context_vectors = causal_attention(mixed[0], mixed[1], mixed[2], options, context);
    return dropout(conv1d(context_vectors, parameters[kProjectionWeight], parameters[kProjectionBias]),
                   config_.residual_dropout, context, DropoutSite::kAttentionOutput);
  }

  [[nodiscard]] at::Tensor mlp(std::span<const at::Tensor> parameters, const at::Tensor& input,
                               const StageContext& context) const {
    const auto wide = conv1d(input, parameters[kExpandWeight], parameters[kExpandBias]);
    const auto active = at::gelu(wide, config_.activation == Activation::kGeluTanh ? "tanh" : "none");
    return dropout(conv1d(active, parameters[kContractWeight], parameters[kContractBias]), config_.residual_dropout,
                   context, DropoutSite::kMlpOutput);
  }

  [[nodiscard]] at::Tensor norm(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) const {
    return at::layer_norm(input, {config_.hidden}, weight, bias, config_.layer_norm_epsilon);
  }

  [[nodiscard]] at::Tensor block(std::int64_t layer, std::span<const at::Tensor> parameters, const at::Tensor& input,
                                 const StageContext& context) const {
    const auto attended =
        input.add(attention(layer, parameters, norm(input, parameters[kNorm1Weight], parameters[kNorm1Bias]), context));
    return attended.add(mlp(parameters, norm(attended, parameters[kNorm2Weight], parameters[kNorm2Bias]), context));
  }

  [[nodiscard]] at::Tensor head(std::span<const at::Tensor> parameters, const at::Tensor& input,
                                const at::Tensor& targets) const {
    // Weight, bias, then either lm_head.weight or, tied, the embedding's token weight.
    const auto normed = norm(input, parameters[0], parameters[1]).view({-1, config_.hidden});
    return cross_entropy(at::linear(normed, parameters[2]), targets.reshape({-1}));
  }

  Gpt2Config config_;
  std::vector<UnitSpec> units_;
  std::vector<StageSpec> stages_;
};

}  // namespace

std::unique_ptr<Model> make_gpt2(const Gpt2Config& config) {
  return std::make_unique<Gpt2>(config);
}

}  // namespace strata::model
