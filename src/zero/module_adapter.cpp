#include "zero/module_adapter.hpp"

#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include <ATen/Functions.h>
#include <fmt/format.h>
#include <torch/nn/module.h>

namespace strata::zero {
namespace {

DType dtype_of(const at::Tensor& tensor) {
  if (tensor.scalar_type() == at::kBFloat16) return DType::kBFloat16;
  if (tensor.scalar_type() == at::kHalf) return DType::kFloat16;
  return DType::kFloat32;
}

}  // namespace

std::vector<ModuleUnit> units_of_modules(
    const std::vector<std::pair<std::string, const torch::nn::Module*>>& modules) {
  std::vector<ModuleUnit> units;
  std::unordered_set<const c10::TensorImpl*> seen;
  for (const auto& [prefix, module] : modules) {
    ModuleUnit unit;
    unit.info.name = prefix;
    for (const auto& item : module->named_parameters(/*recurse=*/true)) {
      const at::Tensor& tensor = item.value();
      if (!seen.insert(tensor.unsafeGetTensorImpl()).second) continue;
      ParameterInfo parameter;
      parameter.name = prefix + "." + item.key();
      parameter.shape = tensor.sizes().vec();
      parameter.dtype = dtype_of(tensor);
      parameter.trainable = tensor.requires_grad() ? Trainable::kYes : Trainable::kNo;
      unit.info.parameters.push_back(std::move(parameter));
      unit.parameters.push_back(tensor);
    }
    units.push_back(std::move(unit));
  }
  return units;
}

ElementSource values_of(const std::vector<ModuleUnit>& units) {
  std::unordered_map<std::string, at::Tensor> values;
  for (const ModuleUnit& unit : units) {
    for (std::size_t p = 0; p < unit.parameters.size(); ++p) {
      values[unit.info.parameters[p].name] = unit.parameters[p].detach();
    }
  }
  return [values = std::move(values)](const Segment& segment, std::uint64_t first, std::span<float> out) -> Status {
    const auto found = values.find(segment.name);
    if (found == values.end()) {
      return fail(ErrorCode::kInternal, fmt::format("no module has the parameter '{}'", segment.name));
    }
    const at::Tensor piece = found->second.reshape({-1})
                                 .narrow(0, static_cast<std::int64_t>(first), static_cast<std::int64_t>(out.size()))
                                 .to(at::kFloat)
                                 .contiguous();
    std::memcpy(out.data(), piece.const_data_ptr<float>(), out.size_bytes());
    return {};
  };
}

}  // namespace strata::zero
