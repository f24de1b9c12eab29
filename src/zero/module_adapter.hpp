// torch::nn::Module as a unit: one of the adapters to the core, which derives from none of them.
#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "zero/segment_table.hpp"
#include "zero/state_access.hpp"

namespace torch::nn {
class Module;
}

namespace strata::zero {

/// The module's parameters with their values, before an engine takes them over. Names are prefix + "." + the module's.
struct ModuleUnit {
  UnitInfo info;
  std::vector<at::Tensor> parameters;  ///< the module's own tensors, for UnitRuntime::adopt
};

/// Parameters of the module and its children that no unit before it has; a tied one stays with the first unit.
[[nodiscard]] std::vector<ModuleUnit> units_of_modules(
    const std::vector<std::pair<std::string, const torch::nn::Module*>>& modules);

/// Values for initialize_unit, taken from the modules. `units` outlives the source.
[[nodiscard]] ElementSource values_of(const std::vector<ModuleUnit>& units);

}  // namespace strata::zero
