// Keys that nobody knows, and sections that this build lacks.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "config/draft.hpp"
#include "config/key_table.hpp"

namespace strata::config {
namespace {

using nlohmann::json;

constexpr std::string_view kIgnoreSections = "strata.ignore_sections";

/// What may stand in strata.ignore_sections. Sections without which nothing can be trained are not among them.
constexpr std::array kIgnorable = {std::string_view("amp"),
                                   std::string_view("sparse_attention"),
                                   std::string_view("compression_training"),
                                   std::string_view("quantize_training"),
                                   std::string_view("data_efficiency"),
                                   std::string_view("curriculum_learning"),
                                   std::string_view("progressive_layer_drop"),
                                   std::string_view("elasticity"),
                                   std::string_view("pipeline"),
                                   std::string_view("tensor_parallel"),
                                   std::string_view("expert_parallel"),
                                   std::string_view("hybrid_engine"),
                                   std::string_view("compile"),
                                   std::string_view("torch_autocast"),
                                   std::string_view("fp16"),
                                   std::string_view("zero_optimization.zenflow"),
                                   std::string_view("zero_optimization.zeropp_loco_param"),
                                   std::string_view("zero_optimization.zero_quantized_weights"),
                                   std::string_view("zero_optimization.zero_quantized_nontrainable_weights"),
                                   std::string_view("zero_optimization.zero_quantized_gradients"),
                                   std::string_view("zero_optimization.offload_optimizer.super_offload")};

/// True when `matches` holds for a value anywhere in it. Depth is bounded by the parser.
template <class Matches>
bool any_value(const json& value, std::string_view name, const Matches& matches) {
  if (!value.is_structured()) return matches(name, value);
  for (const auto& [key, member] : value.items()) {
    if (any_value(member, value.is_object() ? std::string_view(key) : name, matches)) return true;
  }
  return false;
}

bool says_true(const json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() == 1;
  return value.is_string() && (value == "true" || value == "True");
}

bool enabled_in(const json& section) {
  if (!section.is_structured()) return says_true(section);
  return any_value(section, {},
                   [](std::string_view name, const json& value) { return name == "enabled" && says_true(value); });
}

bool parallel_in(const json& section) {
  return any_value(section, {}, [](std::string_view name, const json& value) {
    return (name == "enabled" && says_true(value)) || (value.is_number() && value.get<double>() > 1);
  });
}

/// The longest ignorable name that `path` is or lies in; empty when none.
std::string_view ignorable_around(std::string_view path) {
  for (; !path.empty(); path = parent_of(path)) {
    const auto found = std::ranges::find(kIgnorable, path);
    if (found != kIgnorable.end()) return *found;
  }
  return {};
}

std::string_view ignorable_named(std::string_view name) {
  for (const std::string_view path : kIgnorable) {
    if (path == name || name_in(path) == name) return path;
  }
  return {};
}

std::string refusal_of(const KeyRow& row) {
  std::string text = "not supported by this version";
  if (!row.note.empty() && row.note != "not supported") text += fmt::format(" ({})", row.note);
  return text;
}

/// False for a `type` that is refused or unknown: its parameters need no second error.
bool trains(std::string_view type_path, std::string_view type) {
  const KeyRow* row = find_key(type_path);
  return list_has(row->choices, type) && !list_has(row->refused_choices, type);
}

std::string suggestion_for(std::string_view block, std::string_view name) {
  if (name.find('.') != std::string_view::npos && find_key(join_path(block, name)) != nullptr) {
    return "nest it: a dot in a name does not lead into a section";
  }
  if (!block.empty() && find_key(name) != nullptr) return fmt::format("\"{}\" belongs at the top level", name);
  const std::string near = nearest_key(block, name);
  return near.empty() || near == name ? "" : fmt::format("did you mean \"{}\"?", near);
}

void report_unknown(Draft& draft, std::string_view block, const std::string& name, const json& value, bool strict) {
  const std::string path = join_path(block, name);
  const std::string meant = suggestion_for(block, name);
  if (strict) {
    std::string where = block.ends_with(".params") ? fmt::format("not a parameter of {}", type_beside(draft, path))
                                                   : std::string("unknown key");
    draft.error(path, std::move(where), meant.empty() ? "remove it, or see docs/config.md for the known keys" : meant);
    draft.issues().back().value = text_of(value);
    return;
  }
  const std::string quoted = text_of(name);
  draft.notice(fmt::format("{}{}: unknown key, ignored{}{}", draft.place_of(path),
                           join_path(block, std::string_view(quoted).substr(1, quoted.size() - 2)),
                           meant.empty() ? "" : "; ", meant));
}

void walk_block(Draft& draft, std::string_view block, const json& object, bool strict) {
  for (const auto& [name, value] : object.items()) {
    const std::string path = join_path(block, name);
    const KeyRow* row = name.find('.') == std::string::npos ? find_key(path) : nullptr;
    if (row != nullptr && !row->only_for.empty()) row = find_key(path, type_beside(draft, path));
    if (row == nullptr) {
      report_unknown(draft, block, name, value, strict);
      continue;
    }
    const bool looked_into = row->type == Type::kStrictBlock || row->type == Type::kPlainBlock;
    if (path.ends_with(".params") && !trains(join_path(block, "type"), type_beside(draft, join_path(path, ""))))
      continue;
    if (looked_into && value.is_object()) walk_block(draft, path, value, row->type == Type::kStrictBlock);
  }
}

}  // namespace

std::string type_beside(Draft& draft, std::string_view path) {
  const std::string_view block = parent_of(path);
  if (!block.ends_with(".params")) return {};
  const std::string_view section = parent_of(block);
  const KeyRow* row = find_key(join_path(section, "type"));
  const json* value = draft.find(join_path(section, "type"));
  std::string type;
  if (value != nullptr && value->is_string()) type = value->get<std::string>();
  std::ranges::transform(type, type.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const std::string_view choice : parts_of(row->choices)) {
    std::string lower(choice);
    std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (lower == type) return std::string(choice);
  }
  return section == "optimizer" && value == nullptr ? "AdamW" : type;
}

bool is_refused(const KeyRow& row, const json& value) {
  if (value.is_null()) return false;
  switch (row.refuse) {
    case Refuse::kNever: return false;
    case Refuse::kAlways: return true;
    case Refuse::kWhenTrue: return says_true(value);
    case Refuse::kWhenFalse: return value.is_boolean() && !value.get<bool>();
    case Refuse::kWhenSet: return value.is_structured() ? !value.empty() : value != false;
    case Refuse::kWhenEnabled: return enabled_in(value);
    case Refuse::kWhenParallel: return parallel_in(value);
    case Refuse::kRefusedChoices: return value.is_string() && list_has(row.refused_choices, value.get<std::string>());
  }
  return false;
}

void drop_ignored(Draft& draft) {
  const json* given = draft.find(kIgnoreSections);
  if (given == nullptr) return;
  const json list = given->is_string() ? json::array({*given}) : *given;
  if (!list.is_array()) return;  // the wrong type is found when it is read
  for (const json& entry : list) {
    if (!entry.is_string()) continue;
    const std::string name = entry.get<std::string>();
    const std::string_view path = ignorable_named(name);
    if (path.empty()) {
      const std::string_view near = nearest_of(name, kIgnorable);
      draft.error(kIgnoreSections,
                  fmt::format("{} is no section that can be ignored: {}", text_of(entry), fmt::join(kIgnorable, ", ")),
                  near.empty() ? "remove it" : fmt::format("did you mean \"{}\"?", near));
      continue;
    }
    const json* section = draft.find(path);
    if (section == nullptr) continue;
    draft.notice(fmt::format("{}{}: ignored, as {} says", draft.place_of(path), path, kIgnoreSections));
    draft.put(path, Cell{.row = find_key(path),
                         .value = *section,
                         .origin = Origin::kFile,
                         .origin_detail = {},
                         .fate = Fate::kNoEffect,
                         .note = fmt::format("ignored by {}", kIgnoreSections),
                         .ignored = true});
    draft.erase(path);
  }
}

void find_unknown_keys(Draft& draft) {
  walk_block(draft, {}, draft.root(), false);
}

void refuse_unsupported(Draft& draft) {
  for (const KeyRow* row : all_keys()) {
    if (row->refuse == Refuse::kNever) continue;
    const json* in_file = draft.find(row->path);
    if (in_file == nullptr) continue;
    Cell* cell = draft.cell(row->path);
    if (cell == nullptr || cell->row != row) continue;
    if (!is_refused(*row, cell->value)) continue;
    cell->fate = Fate::kRefused;
    cell->note = row->note;
    std::string hint = row->refuse == Refuse::kWhenFalse ? "set it to true" : "set it to false or remove it";
    if (row->refuse == Refuse::kAlways || is_block(row->type)) hint = "remove it";
    if (row->refuse == Refuse::kRefusedChoices) {
      std::vector<std::string_view> allowed = parts_of(row->choices);
      std::erase_if(allowed, [&](std::string_view choice) { return list_has(row->refused_choices, choice); });
      hint = fmt::format("allowed: {}", fmt::join(allowed, ", "));
    }
    if (row->path == "optimizer.params.max_grad_norm") {
      draft.error(row->path, "no parameter of the optimizer, in DeepSpeed neither", "set gradient_clipping instead");
      continue;
    }
    if (const std::string_view section = ignorable_around(row->path); !section.empty()) {
      hint += fmt::format("; or train without it: \"strata\": {{\"ignore_sections\": [\"{}\"]}}", section);
    }
    draft.error(row->path, refusal_of(*row), std::move(hint));
  }
}

}  // namespace strata::config
