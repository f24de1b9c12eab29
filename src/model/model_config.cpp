#include "model/model_config.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "model/config_reader.hpp"

namespace strata::model {
namespace {

// Far above any model, and small enough that no product of them overflows 64 bits.
constexpr IntegerRange kVocabularyRange{1, 1 << 24};
constexpr IntegerRange kPositionRange{1, 1 << 26};
constexpr IntegerRange kHiddenRange{1, 1 << 18};
constexpr IntegerRange kInnerRange{1, 1 << 20};
constexpr IntegerRange kLayerRange{1, 1 << 14};
constexpr IntegerRange kHeadRange{1, 1 << 12};
// A dropout of 1 leaves nothing to train.
constexpr NumberRange kDropoutRange{0.0, 0.999};
constexpr NumberRange kEpsilonRange{1e-12, 1e-1};
constexpr NumberRange kStdRange{0.0, 10.0};

void check_divides(ConfigReader& reader, std::string_view key, std::int64_t divisor, std::string_view whole_key,
                   std::int64_t whole) {
  if (whole % divisor == 0) return;
  reader.reject(key, fmt::format("{} does not divide {} = {}", divisor, whole_key, whole),
                fmt::format("give a divisor of {}", whole));
}

Activation read_activation(ConfigReader& reader) {
  const auto name = reader.text("activation_function", "gelu_new");
  if (name == "gelu") return Activation::kGelu;
  if (name != "gelu_new" && name != "gelu_pytorch_tanh") {
    reader.reject("activation_function", fmt::format("\"{}\" is not supported", name),
                  "gelu_new, gelu_pytorch_tanh and gelu are");
  }
  return Activation::kGeluTanh;
}

/// RoPE stands in rope_theta and rope_scaling, or since transformers 5 in rope_parameters.
double read_rope(ConfigReader& reader, const std::string& where) {
  constexpr NumberRange kThetaRange{1.0, 1e12};
  double theta = reader.number("rope_theta", kThetaRange, 10000.0);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto* value = reader.find(key);
    if (value == nullptr) continue;
    if (!value->is_object()) {
      reader.reject(key, "not an object");
      continue;
    }
    ConfigReader rope(*value, fmt::format("{}: {}", where, key));
    const auto kind = rope.text("rope_type", rope.text("type", "default"));
    theta = rope.number("rope_theta", kThetaRange, theta);
    rope.only("partial_rotary_factor", 1.0);
    if (const auto status = rope.status(); !status) reader.reject(key, status.error().message);
    if (kind != "default" && kind != "none") {
      reader.reject(key, fmt::format("rope type \"{}\" is not supported", kind), "default is; remove the key");
    }
  }
  return theta;
}

}  // namespace

Result<Gpt2Config> parse_gpt2_config(const nlohmann::json& object, const std::string& where) {
  ConfigReader reader(object, where);
  Gpt2Config config;
  config.vocabulary = reader.integer("vocab_size", kVocabularyRange);
  config.positions = reader.integer("n_positions", kPositionRange, std::nullopt, "max_position_embeddings");
  config.hidden = reader.integer("n_embd", kHiddenRange, std::nullopt, "hidden_size");
  config.layers = reader.integer("n_layer", kLayerRange, std::nullopt, "num_hidden_layers");
  config.heads = reader.integer("n_head", kHeadRange, std::nullopt, "num_attention_heads");
  config.inner = reader.integer("n_inner", kInnerRange, 4 * config.hidden);
  config.activation = read_activation(reader);
  config.layer_norm_epsilon = reader.number("layer_norm_epsilon", kEpsilonRange, config.layer_norm_epsilon);
  config.initializer_range = reader.number("initializer_range", kStdRange, config.initializer_range);
  config.embedding_dropout = reader.number("embd_pdrop", kDropoutRange, config.embedding_dropout);
  config.residual_dropout = reader.number("resid_pdrop", kDropoutRange, config.residual_dropout);
  config.attention_dropout = reader.number("attn_pdrop", kDropoutRange, config.attention_dropout);
  config.tied = reader.flag("tie_word_embeddings", config.tied);
  config.scale_attention = reader.flag("scale_attn_weights", config.scale_attention);
  config.scale_by_inverse_layer = reader.flag("scale_attn_by_inverse_layer_idx", config.scale_by_inverse_layer);
  reader.only("add_cross_attention", false);
  reader.only("reorder_and_upcast_attn", false);
  if (reader.find("quantization_config") != nullptr) {
    reader.reject("quantization_config", "quantized models are not supported");
  }
  check_divides(reader, "n_head", config.heads, "n_embd", config.hidden);
  STRATA_TRY(reader.status());
  return config;
}

Result<LlamaConfig> parse_llama_config(const nlohmann::json& object, const std::string& where) {
  ConfigReader reader(object, where);
  LlamaConfig config;
  config.vocabulary = reader.integer("vocab_size", kVocabularyRange);
  config.hidden = reader.integer("hidden_size", kHiddenRange);
  config.inner = reader.integer("intermediate_size", kInnerRange);
  config.layers = reader.integer("num_hidden_layers", kLayerRange);
  config.heads = reader.integer("num_attention_heads", kHeadRange);
  config.key_value_heads = reader.integer("num_key_value_heads", kHeadRange, config.heads);
  config.positions = reader.integer("max_position_embeddings", kPositionRange, 2048);
  if (reader.find("head_dim") == nullptr) {
    check_divides(reader, "num_attention_heads", config.heads, "hidden_size", config.hidden);
  }
  config.head_size = reader.integer("head_dim", kHiddenRange, config.hidden / config.heads);
  config.norm_epsilon = reader.number("rms_norm_eps", kEpsilonRange, config.norm_epsilon);
  config.rope_theta = read_rope(reader, where);
  config.initializer_range = reader.number("initializer_range", kStdRange, config.initializer_range);
  config.attention_dropout = reader.number("attention_dropout", kDropoutRange, config.attention_dropout);
  config.attention_bias = reader.flag("attention_bias", config.attention_bias);
  config.mlp_bias = reader.flag("mlp_bias", config.mlp_bias);
  config.tied = reader.flag("tie_word_embeddings", config.tied);
  reader.only("hidden_act", "silu");
  reader.only("partial_rotary_factor", 1.0);
  if (reader.find("quantization_config") != nullptr) {
    reader.reject("quantization_config", "quantized models are not supported");
  }
  check_divides(reader, "num_key_value_heads", config.key_value_heads, "num_attention_heads", config.heads);
  if (config.head_size % 2 != 0) {
    reader.reject("head_dim", fmt::format("{} is odd, rotary embedding turns pairs", config.head_size));
  }
  STRATA_TRY(reader.status());
  return config;
}

}  // namespace strata::model
