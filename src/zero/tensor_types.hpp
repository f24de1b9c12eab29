// Our element types as LibTorch's.
#pragma once

#include <c10/core/ScalarType.h>

#include "strata/types.hpp"

namespace strata::zero {

[[nodiscard]] inline c10::ScalarType scalar_type_of(DType type) {
  switch (type) {
    case DType::kFloat32: return c10::ScalarType::Float;
    case DType::kBFloat16: return c10::ScalarType::BFloat16;
    case DType::kFloat16: return c10::ScalarType::Half;
  }
  return c10::ScalarType::Float;
}

}  // namespace strata::zero
