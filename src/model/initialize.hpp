// Initial values of parameters, element by element.
#pragma once

#include <cstdint>
#include <span>

#include "model/model.hpp"

namespace strata::model {

/// Writes elements [first_element, first_element + out.size()) of the parameter, row-major. A value depends on nothing
/// but (seed, parameter name, element index, rule): any chunking, order, rank or thread count gives the same bits.
/// The range must lie inside the parameter.
void initialize_parameter(const ParameterSpec& parameter, std::uint64_t seed, std::uint64_t first_element,
                          std::span<float> out);

}  // namespace strata::model
