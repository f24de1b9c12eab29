// The stages that both models have (embedding, one per block, head and loss), and the checks at their entry.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/model.hpp"

namespace strata::model {

enum class HeadWeight : std::uint8_t { kOwn, kTied };

/// Units in the order embedding, blocks, head give one stage each; a tied head lists the embedding unit too.
[[nodiscard]] std::vector<StageSpec> make_stages(const std::vector<UnitSpec>& units, HeadWeight head_weight);

/// The stage exists and gets as many parameters as its units have; anything else is a programmer's error.
void check_stage(const Model& model, std::size_t stage, std::size_t parameters);

/// Throws c10::Error unless `ids` is [batch, sequence <= positions] int64.
void check_ids(const at::Tensor& ids, std::int64_t positions);

}  // namespace strata::model
