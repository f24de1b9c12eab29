#include "model/stage_list.hpp"

#include "base/check.hpp"

namespace strata::model {

std::vector<StageSpec> make_stages(const std::vector<UnitSpec>& units, HeadWeight head_weight) {
  std::vector<StageSpec> stages;
  for (std::uint32_t unit = 0; unit < units.size(); ++unit) {
    // Looking up the embedding keeps no activation but the ids, and the backward of the last stage follows its forward
    // at once: for both, a second forward would buy nothing.
    const bool block = unit > 0 && unit + 1 < units.size();
    stages.push_back({units[unit].name, {unit}, block ? StageSpec::Recompute::kAllowed : StageSpec::Recompute::kNever});
  }
  if (head_weight == HeadWeight::kTied) stages.back().units.push_back(0);
  return stages;
}

void check_stage(const Model& model, std::size_t stage, std::size_t parameters) {
  STRATA_CHECK(stage < model.stages().size(), "stage");
  std::size_t expected = 0;
  for (const auto unit : model.stages()[stage].units) expected += model.units()[unit].parameters.size();
  STRATA_CHECK(parameters == expected, "a stage takes the parameters of all its units");
}

void check_ids(const at::Tensor& ids, std::int64_t positions) {
  TORCH_CHECK(ids.dim() == 2 && ids.scalar_type() == at::kLong, "token ids must be [batch, sequence] int64");
  TORCH_CHECK(ids.size(1) <= positions, "sequence of ", ids.size(1), " is longer than the model's ", positions,
              " positions");
}

}  // namespace strata::model
