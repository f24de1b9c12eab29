// Other names, deprecated keys and old forms become the canonical ones before anything is read.
#include <fmt/format.h>

#include "config/draft.hpp"
#include "config/key_table.hpp"

namespace strata::config {
namespace {

using nlohmann::json;

void resolve_bool_form(Draft& draft) {
  json* zero = draft.find("zero_optimization");
  if (zero == nullptr || !zero->is_boolean()) return;
  const bool on = zero->get<bool>();
  draft.notice(fmt::format("{}zero_optimization = {} is an old form of {{\"stage\": {}}}",
                           draft.place_of("zero_optimization"), on, on ? 1 : 0));
  *zero = json::object();
  if (!on) return;
  (*zero)["stage"] = 1;
  draft.copy_positions("zero_optimization", "zero_optimization.stage");
  draft.set_origin("zero_optimization.stage", Origin::kAlias, "zero_optimization: true");
}

void resolve_alias(Draft& draft, const KeyRow& row, std::string_view alias) {
  json* block = draft.find(parent_of(row.path));
  if (block == nullptr || !block->is_object()) return;
  const auto other = block->find(std::string(alias));
  if (other == block->end()) return;
  const std::string alias_path = join_path(parent_of(row.path), alias);
  const std::string name(name_in(row.path));
  if (const auto own = block->find(name); own != block->end()) {
    if (*own != *other) {
      draft.error(alias_path, fmt::format("another name of {}, which says {}", row.path, text_of(*own)),
                  "keep one of the two");
    }
  } else {
    json value = *other;
    (*block)[name] = std::move(value);
    draft.copy_positions(alias_path, row.path);
    draft.set_origin(row.path, Origin::kAlias, std::string(alias));
  }
  draft.erase(alias_path);
}

/// cpu_offload: true -> offload_optimizer.device: "cpu".
void resolve_deprecated(Draft& draft, const KeyRow& row) {
  const json* value = draft.find(row.path);
  if (value == nullptr || value->is_null() || !value->is_boolean()) return;  // wrong types are found when read
  const std::string block(parent_of(row.replaced_by));
  if (draft.find(block) != nullptr) {
    draft.error(row.path, fmt::format("deprecated, and {} is given too", block), fmt::format("keep only {}", block));
    return;
  }
  draft.notice(fmt::format("{}{} is deprecated: write \"{}\": {{\"device\": \"cpu\"}}", draft.place_of(row.path),
                           row.path, name_in(block)));
  if (value->get<bool>()) {
    if (json* object = draft.object_at(block)) (*object)[std::string(name_in(row.replaced_by))] = "cpu";
    draft.copy_positions(row.path, row.replaced_by);
    draft.set_origin(row.replaced_by, Origin::kAlias, std::string(name_in(row.path)));
  }
}

}  // namespace

void resolve_spellings(Draft& draft) {
  resolve_bool_form(draft);
  for (const KeyRow* row : all_keys()) {
    for (const std::string_view alias : parts_of(row->aliases)) resolve_alias(draft, *row, alias);
  }
  for (const KeyRow* row : all_keys()) {
    if (!row->replaced_by.empty()) resolve_deprecated(draft, *row);
  }
}

void apply_overrides(Draft& draft) {
  const LoadOptions& options = draft.options();
  std::vector<Override> all;
  if (options.micro_batch) all.push_back({"train_micro_batch_size_per_gpu", *options.micro_batch, "--micro-batch"});
  if (options.accumulation) all.push_back({"gradient_accumulation_steps", *options.accumulation, "--accumulate"});
  all.insert(all.end(), options.overrides.begin(), options.overrides.end());
  for (const Override& change : all) {
    json* block = draft.object_at(parent_of(change.path));
    if (find_key(change.path) == nullptr || block == nullptr) {
      draft.error(change.path, fmt::format("{} can't set it: no such key, or no object to put it in", change.flag),
                  "leave the flag out, or mend the section");
      continue;
    }
    (*block)[std::string(name_in(change.path))] =
        std::visit([](const auto& value) { return json(value); }, change.value);
    draft.set_origin(change.path, Origin::kCommandLine, change.flag);
  }
}

}  // namespace strata::config
