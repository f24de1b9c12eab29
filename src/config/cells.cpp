// Reads every key of the table: type, limits, "auto", default.
#include <algorithm>
#include <cctype>
#include <cmath>

#include <fmt/format.h>

#include "base/check.hpp"
#include "base/size_text.hpp"
#include "config/auto_fill.hpp"
#include "config/draft.hpp"
#include "config/key_table.hpp"
#include "config/key_text.hpp"

namespace strata::config {
namespace {

using nlohmann::json;

/// A value as the row types it, or what is wrong with it.
struct Problem {
  std::string message;
  std::string hint;
};
using Typed = tl::expected<json, Problem>;

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

tl::unexpected<Problem> wrong(const KeyRow& row, std::string hint = {}) {
  if (hint.empty()) {
    hint = row.fallback.empty() ? "mend it, or leave it out"
                                : fmt::format("leave it out for the default, {}", row.fallback);
  }
  return tl::unexpected(Problem{fmt::format("not allowed: {}", allowed_text(row)), std::move(hint)});
}

Typed read_bool(const KeyRow& row, const json& value) {
  if (value.is_boolean()) return value;
  if (value.is_number_integer() && (value == 0 || value == 1)) return json(value == 1);
  if (value.is_string()) {
    const std::string text = lower(value.get<std::string>());
    if (text == "true" || text == "false") return json(text == "true");
  }
  return wrong(row);
}

Typed read_number(const KeyRow& row, const json& value) {
  if (value.is_string()) {
    const bool numeric = !value.get<std::string>().empty() &&
                         value.get<std::string>().find_first_not_of("0123456789+-.eE") == std::string::npos;
    return wrong(row, numeric ? "write the number without quotes" : "");
  }
  if (!value.is_number()) return wrong(row);
  const double number = value.get<double>();
  if (!std::isfinite(number) || number < row.limits.least || number > row.limits.most) return wrong(row);
  return value;
}

/// DeepSpeed files write 5e8 where an integer is meant.
Typed read_integer(const KeyRow& row, const json& value) {
  if (value == "inf" && row.path == "steps_per_print") return json(std::uint64_t{0});  // Accelerate's "never"
  Typed number = read_number(row, value);
  if (!number) return number;
  if (!number->is_number_float()) return *number < 0 ? number : Typed(json(number->get<std::uint64_t>()));
  const double real = number->get<double>();
  if (real != std::floor(real)) return wrong(row, fmt::format("round it, for example to {:.0f}", real));
  if (real >= 0x1p63 || real < -0x1p63) return wrong(row);
  if (real < 0) return json(static_cast<std::int64_t>(real));
  return json(static_cast<std::uint64_t>(real));
}

Typed read_choice(const KeyRow& row, const json& value) {
  const std::vector<std::string_view> choices = parts_of(row.choices);
  if (!value.is_string()) return wrong(row);
  const std::string text = lower(value.get<std::string>());
  for (const std::string_view choice : choices) {
    if (lower(choice) == text) return json(choice);
  }
  const std::string_view near = nearest_of(text, choices);
  return wrong(row, near.empty() ? "" : fmt::format("did you mean \"{}\"?", near));
}

Typed read_size(const KeyRow& row, const json& value) {
  if (value.is_string()) {
    const Result<Bytes> bytes = parse_size(value.get<std::string>());
    if (bytes && bytes->value > 0) return json(bytes->value);
    return wrong(row);
  }
  Typed bytes = read_integer(row, value);
  if (bytes && *bytes > 0) return bytes;
  return wrong(row);
}

Typed read_texts(const KeyRow& row, const json& value) {
  if (value.is_string()) return json::array({value});
  const auto is_text = [](const json& entry) { return entry.is_string() && !entry.get<std::string>().empty(); };
  if (!value.is_array() || !std::ranges::all_of(value, is_text)) return wrong(row);
  return value;
}

Typed read_betas(const KeyRow& row, const json& value) {
  const auto is_beta = [](const json& beta) {
    return beta.is_number() && beta.get<double>() >= 0 && beta.get<double>() < 1;
  };
  if (!value.is_array() || value.size() != 2 || !std::ranges::all_of(value, is_beta)) return wrong(row);
  return value;
}

Typed read_text(const KeyRow& row, const json& value) {
  if (value.is_string()) return value;
  if (value.is_array() && name_in(row.path) == "nvme_path") {
    return wrong(row, "name one folder here; a list stands in strata.paths");
  }
  return wrong(row);
}

Typed read_typed(const KeyRow& row, const json& value) {
  switch (row.type) {
    case Type::kBool: return read_bool(row, value);
    case Type::kInteger: return read_integer(row, value);
    case Type::kNumber: return read_number(row, value);
    case Type::kText: return read_text(row, value);
    case Type::kChoice: return read_choice(row, value);
    case Type::kSize: return read_size(row, value);
    case Type::kTextList: return read_texts(row, value);
    case Type::kBetas: return read_betas(row, value);
    case Type::kCountOrAll: return value == "all" ? Typed(value) : read_integer(row, value);
    case Type::kAny:
    case Type::kFreeBlock: return value;
    case Type::kStrictBlock:
    case Type::kPlainBlock: return value.is_object() ? Typed(value) : Typed(wrong(row));
  }
  return wrong(row);
}

bool belongs(Draft& draft, const KeyRow& row) {
  return row.only_for.empty() || list_has(row.only_for, type_beside(draft, row.path));
}

json default_of(const KeyRow& row) {
  if (row.fallback.empty()) return nullptr;
  const json value = json::parse(row.fallback);
  const Typed typed = read_typed(row, value);
  STRATA_CHECK(typed.has_value(), row.path);
  return *typed;
}

bool means_auto(const KeyRow& row, const json& value) {
  return value == "auto" && !(row.type == Type::kChoice && list_has(row.choices, "auto")) && row.fallback != "\"auto\"";
}

void fill_auto(Draft& draft, const KeyRow& row, Cell& cell) {
  const Filled filled = auto_value(draft.options(), row.auto_fill);
  cell.origin = Origin::kAutoFilled;
  if (filled.value.is_null()) {
    cell.value = default_of(row);
    cell.note = !filled.note.empty()              ? filled.note
                : row.path.starts_with("strata.") ? "the default"
                                                  : "DeepSpeed's default";
    const KeyRow* block = find_key(parent_of(row.path));
    const bool strict = block != nullptr && block->type == Type::kStrictBlock && !block->path.ends_with(".params");
    if (row.auto_fill == AutoFill::kNone && !strict) {
      draft.error(
          row.path, fmt::format("\"auto\" is not known for this key: {}", allowed_text(row)),
          row.fallback.empty() ? "leave it out" : fmt::format("leave it out for the default, {}", row.fallback));
    }
    return;
  }
  cell.value = filled.value;
  cell.note = filled.note;
}

void read_cell(Draft& draft, const KeyRow& row) {
  // An obeyed value needs no explanation; docs/config.md has one.
  Cell cell{.row = &row,
            .value = nullptr,
            .origin = Origin::kDefault,
            .origin_detail = {},
            .fate = row.fate,
            .note = std::string(row.fate == Fate::kObeyed ? std::string_view{} : row.note)};
  const json* value = draft.find(row.path);
  const bool optional = row.fallback.empty() || is_block(row.type);
  if (value == nullptr || (value->is_null() && optional)) {
    if (const Cell* before = draft.cell(row.path); before != nullptr && before->ignored) return;
    cell.value = default_of(row);
  } else if (means_auto(row, *value)) {
    fill_auto(draft, row, cell);
  } else {
    const auto origin = draft.origin_of(row.path);
    cell.origin = origin ? origin->first : Origin::kFile;
    if (origin) cell.origin_detail = origin->second;
    const Typed typed = read_typed(row, *value);
    if (typed) {
      cell.value = *typed;
      if (row.type == Type::kBool && value->is_string()) {
        draft.notice(fmt::format("{}{}: read as {}; write it without quotes", draft.place_of(row.path), row.path,
                                 text_of(*typed)));
      }
    } else {
      draft.error(row.path, typed.error().message, typed.error().hint);
      cell.value = default_of(row);
      cell.fate = Fate::kRefused;
    }
  }
  draft.put(row.path, std::move(cell));
}

}  // namespace

void read_cells(Draft& draft) {
  for (const KeyRow* row : all_keys()) {
    if (belongs(draft, *row)) read_cell(draft, *row);
  }
}

}  // namespace strata::config
