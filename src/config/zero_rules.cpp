// Rules of zero_optimization: what each stage offloads, and where to.
#include <fmt/format.h>

#include "config/draft.hpp"

namespace strata::config {
namespace {

using nlohmann::json;

constexpr std::string_view kStage = "zero_optimization.stage";
constexpr std::string_view kParam = "zero_optimization.offload_param";
constexpr std::string_view kOptimizer = "zero_optimization.offload_optimizer";

std::string device_of(Draft& draft, std::string_view block) {
  return draft.text(join_path(block, "device"));
}

void turn_off(Draft& draft, std::string_view block, const std::string& why) {
  const std::string path = join_path(block, "device");
  draft.notice(
      fmt::format("{}{} = {} has no effect: {}", draft.place_of(path), path, text_of(draft.cell(path)->value), why));
  draft.derive(path, "none", {});
  draft.no_effect(path, why);
}

/// DeepSpeed's documentation says cpu, its code none.
void check_missing_device(Draft& draft, std::string_view block) {
  const json* section = draft.find(block);
  if (section == nullptr || !section->is_object() || section->contains("device")) return;
  draft.notice(fmt::format("{}{}.device is not set: none, as in DeepSpeed's code (its documentation says cpu)",
                           draft.place_of(block), block));
}

void check_stage(Draft& draft, std::uint64_t stage) {
  Cell* cell = draft.cell(kStage);
  if (stage == 0) cell->note = "nothing is sharded";
  if (stage == 1 || stage == 2) {
    cell->note = "one rank: state is placed as in stage 3, parameters stay on the device";
  }
  if (stage == 3) cell->note = "one rank holds every shard";
  if (stage < 3 && draft.is_set("zero_optimization.offload_optimizer.ratio") &&
      draft.number("zero_optimization.offload_optimizer.ratio") < 1) {
    draft.error("zero_optimization.offload_optimizer.ratio", fmt::format("stage {} allows only 1.0", stage),
                "set zero_optimization.stage to 3, or remove ratio");
  }
  if (stage < 3 && device_of(draft, kParam) != "none")
    turn_off(draft, kParam, "parameters are offloaded in stage 3 only");
  if (stage == 0 && device_of(draft, kOptimizer) != "none") {
    turn_off(draft, kOptimizer, "stage 0 offloads nothing; set zero_optimization.stage to 1, 2 or 3");
  }
  if (stage >= 1 && stage < 3 && device_of(draft, kOptimizer) == "nvme") {
    const std::string path = join_path(kOptimizer, "device");
    draft.notice(fmt::format("{}{}: stage {} treats nvme as cpu, as in DeepSpeed; stage 3 uses the disk",
                             draft.place_of(path), path, stage));
    draft.derive(path, "cpu", "stages 1 and 2 treat nvme as cpu, as in DeepSpeed");
  }
}

/// Precedence: strata.paths, then each section's own path, then the run's folder.
void check_paths(Draft& draft) {
  const bool listed = !draft.texts("strata.paths").empty();
  bool missing = false;
  for (const std::string_view block : {kOptimizer, kParam}) {
    const std::string path = join_path(block, "nvme_path");
    const bool used = device_of(draft, block) == "nvme";
    if (!draft.is_set(path)) {
      missing = missing || (used && !listed);
      continue;
    }
    if (draft.text(path).empty()) draft.error(path, "an empty path", "name a folder on the disk to offload to");
    if (!used) draft.no_effect(path, fmt::format("{}.device is not nvme", block));
    if (used && listed) draft.no_effect(path, "strata.paths wins");
  }
  const std::string first = join_path(kOptimizer, "nvme_path");
  const std::string second = join_path(kParam, "nvme_path");
  const bool both = draft.is_set(first) && draft.is_set(second) && draft.cell(first)->fate == Fate::kObeyed &&
                    draft.cell(second)->fate == Fate::kObeyed;
  if (both && draft.text(first) != draft.text(second)) {
    draft.no_effect(second, "one file holds both; the optimizer's folder is used");
    draft.notice(fmt::format("{}{} differs from the optimizer's and is not used; list both folders in strata.paths",
                             draft.place_of(second), second));
  }
  const bool elsewhere = draft.is_set(first) || draft.is_set(second);
  if (missing && !elsewhere) {
    draft.notice("device is nvme, and neither nvme_path nor strata.paths is set: the run's own folder (--out) is used");
  }
}

}  // namespace

void check_zero(Draft& draft) {
  check_missing_device(draft, kParam);
  check_missing_device(draft, kOptimizer);
  if (draft.cell(kStage)->fate != Fate::kRefused) check_stage(draft, draft.count(kStage));
  check_paths(draft);
}

}  // namespace strata::config
