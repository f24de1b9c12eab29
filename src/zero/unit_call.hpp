// Running a function over units, with or without recompute in backward.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "zero/unit_runtime.hpp"

namespace strata::zero {

/// What a unit computes from its parameters (of all uses, concatenated) and one input. Must not keep the parameters.
using UnitFunction = std::function<at::Tensor(std::span<const at::Tensor> parameters, const at::Tensor& input)>;

struct UnitCall {
  std::vector<UnitUse> uses;
  UnitFunction function;
};

/// before_forward, the function, after_forward.
[[nodiscard]] at::Tensor run_unit(UnitRuntime& runtime, const UnitCall& call, const at::Tensor& input);

/// The same, but nothing inside is kept: backward runs the function again from the input (Chen et al. 2016, activation
/// checkpointing), with the default generator's state of the first run, and sends parameter gradients straight to the
/// sink. `spill`, when given, is an object of kind kActivation that holds the input between forward and backward
/// instead of the device.
[[nodiscard]] at::Tensor run_unit_recomputed(UnitRuntime& runtime, tiers::TierManager& tiers, const UnitCall& call,
                                             const at::Tensor& input, std::optional<ObjectId> spill);

}  // namespace strata::zero
