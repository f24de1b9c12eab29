// Rules between keys: precision, optimizer, schedule, and what only one rank can say.
#include <fmt/format.h>

#include "config/draft.hpp"
#include "config/key_table.hpp"

namespace strata::config {
namespace {

using nlohmann::json;

constexpr std::string_view kGradType = "data_types.grad_accum_dtype";
constexpr std::string_view kTotalSteps = "scheduler.params.total_num_steps";
constexpr std::string_view kWarmupSteps = "scheduler.params.warmup_num_steps";
constexpr std::string_view kWarmupType = "scheduler.params.warmup_type";
constexpr std::string_view kWarmupMaxLr = "scheduler.params.warmup_max_lr";
constexpr std::string_view kWeightDecay = "optimizer.params.weight_decay";

/// A section that is there and not empty.
bool section_given(Draft& draft, std::string_view path) {
  const json* section = draft.find(path);
  return section != nullptr && section->is_object() && !section->empty();
}

void check_scheduler(Draft& draft) {
  if (!section_given(draft, "scheduler")) return;
  if (!draft.is_set("scheduler.type")) {
    if (draft.cell("scheduler.type")->fate != Fate::kRefused) {
      draft.error("scheduler.type", "missing", "WarmupLR, WarmupDecayLR or WarmupCosineLR; or remove the section");
    }
    return;
  }
  const std::string type = draft.text("scheduler.type");
  if (draft.cell(kTotalSteps) != nullptr && !draft.is_set(kTotalSteps)) {
    const Cell* total = draft.cell(kTotalSteps);
    if (total->origin != Origin::kAutoFilled && total->fate != Fate::kRefused) {
      draft.error(kTotalSteps, fmt::format("missing, and {} needs it", type),
                  "write the number of steps, or \"auto\" for that of the run");
    }
  }
  if (draft.is_set(kTotalSteps) && draft.is_set(kWarmupSteps) && draft.count(kTotalSteps) < draft.count(kWarmupSteps)) {
    draft.notice(fmt::format("{} ({}) is less than {} ({}): the warm-up never ends", kTotalSteps,
                             draft.count(kTotalSteps), kWarmupSteps, draft.count(kWarmupSteps)));
  }
  if (draft.is_set(kWarmupType) && draft.text(kWarmupType) != "log" && draft.text(kWarmupType) != "linear") {
    draft.notice(fmt::format("{}{} = {} is neither log nor linear: log is used, as in DeepSpeed",
                             draft.place_of(kWarmupType), kWarmupType, text_of(draft.cell(kWarmupType)->value)));
    draft.derive(kWarmupType, "log", "unknown values mean log, as in DeepSpeed");
  }
  if (type == "WarmupLR" && draft.cell(kWarmupMaxLr) != nullptr && !draft.is_set(kWarmupMaxLr)) {
    draft.notice(fmt::format("{} is not set: the optimizer's lr counts (older DeepSpeed: 0.001)", kWarmupMaxLr));
  }
}

void check_decay(Draft& draft, std::string_view type) {
  constexpr std::string_view kMode = "optimizer.params.adam_w_mode";
  if (!draft.is_set(kMode) || !draft.is_set(kWeightDecay)) return;
  if (type == "AdamW" && !draft.flag(kMode)) {
    draft.no_effect(kMode, "AdamW decouples the decay always, as in DeepSpeed");
    draft.derive(kMode, true, {});
  }
  const bool decoupled = type == "AdamW" || draft.flag(kMode);
  const bool given = draft.is_given(kWeightDecay) || draft.cell(kWeightDecay)->origin == Origin::kAutoFilled;
  if (draft.flag("optimizer.params.torch_adam") && decoupled && !given) {
    draft.derive(kWeightDecay, 0.01, "torch's default, as torch_adam asks");
    draft.notice(fmt::format("{} is not set: 0.01, torch's default, counts because of torch_adam", kWeightDecay));
  }
  if (type == "Adam" && decoupled && !draft.is_given(kMode) && draft.number(kWeightDecay) != 0) {
    draft.notice("optimizer.params.adam_w_mode is not set: Adam decouples the weight decay, as in DeepSpeed");
  }
}

}  // namespace

void check_precision(Draft& draft) {
  const bool bf16 = draft.flag("bf16.enabled");
  const std::string name = bf16 ? "bf16" : "fp32";
  if (draft.is_set("data_types.param_dtype") && draft.text("data_types.param_dtype") != name) {
    draft.error("data_types.param_dtype", fmt::format("parameters are {}, as bf16.enabled = {} says", name, bf16),
                "make the two agree, or remove this key");
  }
  if (!draft.is_set(kGradType)) {
    Cell* cell = draft.cell(kGradType);
    cell->value = "fp32";
    cell->note = "DeepSpeed's default is the model's type";
    if (bf16) {
      draft.notice(
          fmt::format("{} is not set: gradients accumulate in fp32 (DeepSpeed: in the model's type, bf16)", kGradType));
    }
  } else if (!bf16 && draft.text(kGradType) == "bf16") {
    draft.error(kGradType, "bf16 gradients need bf16.enabled", "enable bf16, or remove this key");
  }
}

void check_optimizer(Draft& draft) {
  check_scheduler(draft);
  if (!section_given(draft, "optimizer")) {
    draft.notice("optimizer is not set: AdamW with lr 0.001, betas 0.9 and 0.999, eps 1e-8, no weight decay");
    return;
  }
  if (draft.find("optimizer.type") == nullptr) {
    draft.error("optimizer.type", "missing", "Adam or AdamW");
    return;
  }
  const std::string type = type_beside(draft, "optimizer.params.lr");
  if (type == "Adam" || type == "AdamW") check_decay(draft, type);
}

namespace {

/// DeepSpeed's stage 3 with reduce_scatter asserts the same.
void check_averaging(Draft& draft) {
  const bool stage3 = draft.is_set("zero_optimization.stage") && draft.count("zero_optimization.stage") == 3;
  if (!stage3 || !draft.flag("zero_optimization.reduce_scatter")) return;
  if (draft.flag("prescale_gradients")) {
    draft.error("prescale_gradients", "stage 3 with reduce_scatter allows only false", "remove it");
  }
  if (draft.number("gradient_predivide_factor") != 1) {
    draft.error("gradient_predivide_factor", "stage 3 with reduce_scatter allows only 1.0", "remove it");
  }
  if (draft.text("gradient_allreduce_op") != "mean") {
    draft.error("gradient_allreduce_op", "stage 3 allows only \"mean\"", "remove it");
  }
}

/// One line for all that was asked for and changes nothing.
void list_without_effect(Draft& draft) {
  constexpr std::size_t kNamed = 8;
  std::vector<std::string> paths;
  for (const KeyReport& row : draft.report()) {
    const KeyRow* key = find_key(row.path, type_beside(draft, row.path));
    const bool given = row.origin == Origin::kFile || row.origin == Origin::kAlias;
    if (row.fate != Fate::kNoEffect || !given || key == nullptr || draft.cell(row.path)->ignored) continue;
    if (!key->fallback.empty() && json::parse(key->fallback) == draft.cell(row.path)->value) continue;
    paths.push_back(row.path);
  }
  if (paths.empty()) return;
  const std::size_t more = paths.size() > kNamed ? paths.size() - kNamed : 0;
  paths.resize(paths.size() - more);
  draft.notice(fmt::format("accepted without effect: {}{}; strata config check says why", fmt::join(paths, ", "),
                           more == 0 ? "" : fmt::format(" and {} more", more)));
}

/// What stands in the place of "auto", where it matters.
void list_filled(Draft& draft) {
  std::vector<std::string> filled;
  for (const KeyReport& row : draft.report()) {
    const bool matters = row.fate == Fate::kObeyed || row.fate == Fate::kUpperHint;
    if (row.origin != Origin::kAutoFilled || !matters) continue;
    filled.push_back(row.value == "-" ? fmt::format("{} ({})", row.path, row.note)
                                      : fmt::format("{} = {}", row.path, row.value));
  }
  if (!filled.empty()) draft.notice(fmt::format("\"auto\" becomes: {}", fmt::join(filled, ", ")));
}

}  // namespace

void check_rest(Draft& draft) {
  check_averaging(draft);
  if (const Cell* clip = draft.cell("gradient_clipping"); clip->origin == Origin::kDefault) {
    draft.notice("gradient_clipping is not set: gradients are clipped to a norm of 1.0 (0: no clipping)");
  }
  if (draft.options().world_size > 1) {
    draft.notice(fmt::format("world size {}: this version trains with one rank", draft.options().world_size));
  }
  list_filled(draft);
  list_without_effect(draft);
}

}  // namespace strata::config
