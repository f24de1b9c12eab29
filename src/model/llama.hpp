// Llama (Touvron et al. 2023), with the names and conventions of transformers' LlamaForCausalLM.
#pragma once

#include <memory>

#include "model/model.hpp"
#include "model/model_config.hpp"

namespace strata::model {

[[nodiscard]] std::unique_ptr<Model> make_llama(const LlamaConfig& config);

}  // namespace strata::model
