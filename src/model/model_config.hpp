// What a Hugging Face config.json says, checked: every value is in range and the sizes fit together.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/result.hpp"

namespace strata::model {

enum class Activation : std::uint8_t { kGeluTanh, kGelu };

struct Gpt2Config {
  std::int64_t vocabulary = 0;
  std::int64_t positions = 0;
  std::int64_t hidden = 0;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t inner = 0;
  Activation activation = Activation::kGeluTanh;
  double layer_norm_epsilon = 1e-5;
  double initializer_range = 0.02;
  double embedding_dropout = 0.1;
  double residual_dropout = 0.1;
  double attention_dropout = 0.1;
  bool tied = true;
  bool scale_attention = true;
  bool scale_by_inverse_layer = false;
};

struct LlamaConfig {
  std::int64_t vocabulary = 0;
  std::int64_t positions = 0;
  std::int64_t hidden = 0;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t key_value_heads = 0;
  std::int64_t head_size = 0;
  std::int64_t inner = 0;
  double norm_epsilon = 1e-6;
  double rope_theta = 10000.0;
  double initializer_range = 0.02;
  double attention_dropout = 0.0;
  bool attention_bias = false;
  bool mlp_bias = false;
  bool tied = false;
};

/// `where` names the file in messages. kConfig names the key, its value and what is allowed.
[[nodiscard]] Result<Gpt2Config> parse_gpt2_config(const nlohmann::json& object, const std::string& where);
[[nodiscard]] Result<LlamaConfig> parse_llama_config(const nlohmann::json& object, const std::string& where);

}  // namespace strata::model
