// GPT-2 (Radford et al. 2019), with the names and conventions of transformers' GPT2LMHeadModel.
#pragma once

#include <memory>

#include "model/model.hpp"
#include "model/model_config.hpp"

namespace strata::model {

[[nodiscard]] std::unique_ptr<Model> make_gpt2(const Gpt2Config& config);

}  // namespace strata::model
