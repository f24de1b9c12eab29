// Parameters of a model as leaf tensors, and the loop over its stages.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "model/initialize.hpp"
#include "model/model.hpp"
#include "support/reference_models.hpp"

namespace strata::test {

struct ModelLeaves {
  std::vector<std::vector<at::Tensor>> units;
  NamedTensors by_name;
};

/// Values far from their initial ones (every weight random, norms around 1), so that no term of a formula vanishes.
inline ModelLeaves make_leaves(const model::Model& m, at::ScalarType type, double std = 0.2) {
  ModelLeaves leaves;
  for (const auto& unit : m.units()) {
    auto& tensors = leaves.units.emplace_back();
    for (const auto& spec : unit.parameters) {
      auto random = spec;
      random.init = {model::InitRule::Kind::kNormal, std};
      auto values = at::empty(spec.shape, at::kFloat);
      model::initialize_parameter(random, 7, 0, {values.data_ptr<float>(), static_cast<std::size_t>(values.numel())});
      if (spec.init.kind == model::InitRule::Kind::kOnes) values.add_(1.0);
      tensors.push_back(values.to(type).requires_grad_());
      leaves.by_name[spec.name] = tensors.back();
    }
  }
  return leaves;
}

inline std::vector<at::Tensor> stage_parameters(const model::Model& m, const ModelLeaves& leaves, std::size_t stage) {
  std::vector<at::Tensor> parameters;
  for (const auto unit : m.stages()[stage].units) {
    parameters.insert(parameters.end(), leaves.units[unit].begin(), leaves.units[unit].end());
  }
  return parameters;
}

inline at::Tensor run_model(const model::Model& m, const ModelLeaves& leaves, const at::Tensor& ids,
                            const at::Tensor& targets, const model::StageContext& base = {}) {
  auto activation = ids;
  for (std::size_t stage = 0; stage < m.stages().size(); ++stage) {
    auto context = base;
    context.key.unit = m.stages()[stage].units[0];
    const bool last = stage + 1 == m.stages().size();
    activation =
        m.run_stage(stage, stage_parameters(m, leaves, stage), activation, last ? targets : at::Tensor(), context);
  }
  return activation;
}

/// Deterministic token ids [batch, sequence] below `vocabulary`.
inline at::Tensor make_ids(std::int64_t batch, std::int64_t sequence, std::int64_t vocabulary, std::int64_t salt) {
  return (at::arange(batch * sequence, at::kLong) * 31 + salt * 17)
      .pow(2)
      .remainder(vocabulary)
      .view({batch, sequence});
}

}  // namespace strata::test
