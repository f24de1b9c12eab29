#include "config/report_text.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/version.hpp"
#include "config/key_table.hpp"

namespace strata::config {
namespace {

constexpr std::size_t kColumns = 120;
constexpr std::size_t kValueWidth = 26;
constexpr std::size_t kOriginWidth = 14;
constexpr std::size_t kFateWidth = 24;

/// A key that exists only to refuse all but one value says nothing at its default.
bool is_guard(const KeyReport& row) {
  const KeyRow* key = find_key(row.path);
  const bool choices = key->refuse == Refuse::kNever || key->refuse == Refuse::kRefusedChoices;
  return !choices || key->limits.least == key->limits.most;
}

bool matters(const KeyReport& row) {
  if (row.origin != Origin::kDefault) return true;
  if (row.fate == Fate::kObeyed && is_guard(row)) return false;
  return row.fate == Fate::kRefused ||
         ((row.fate == Fate::kObeyed || row.fate == Fate::kUpperHint) && row.value != "-");
}

std::string fit(std::string text, std::size_t width) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  if (text.size() <= width) return text;
  std::size_t keep = width - 3;
  while (keep > 0 && (static_cast<unsigned char>(text[keep]) & 0xc0) == 0x80) --keep;
  return text.substr(0, keep) + "...";
}

}  // namespace

std::string format_report(const LoadedConfig& loaded, Rows rows) {
  const auto shown = [rows](const KeyReport& row) { return rows == Rows::kAll || matters(row); };
  std::size_t key_width = 3;
  for (const KeyReport& row : loaded.report) {
    if (shown(row)) key_width = std::max(key_width, row.path.size());
  }
  key_width = std::min(key_width, kColumns - kValueWidth - kOriginWidth - kFateWidth - 3);
  std::string text =
      fmt::format("{:<{}} {:<{}} {:<{}} {}\n", "key", key_width, "value", kValueWidth, "origin", kOriginWidth, "fate");
  for (const KeyReport& row : loaded.report) {
    if (!shown(row)) continue;
    const std::string origin = origin_text(row);
    const auto cells = [&](std::string_view key, std::string_view from) {
      return fmt::format("{:<{}} {:<{}} {:<{}} {}", key, key_width, fit(row.value, kValueWidth), kValueWidth, from,
                         kOriginWidth, name_of(row.fate));
    };
    // A key that is too long gets a line of its own; an origin that is too long goes below, like a note.
    std::string line = cells(row.path, origin);
    const bool long_origin = line.size() > kColumns && origin.size() > kOriginWidth;
    if (long_origin) line = cells(row.path, name_of(row.origin));
    if (line.size() > kColumns) line = row.path + '\n' + cells({}, long_origin ? name_of(row.origin) : origin);
    if (long_origin) line += fmt::format("\n    given as {}", row.origin_detail);
    text += line + '\n';
    if (!row.note.empty()) text += fit(fmt::format("    {}", row.note), kColumns) + '\n';
  }
  return text;
}

std::string check_document(const CheckResult& result, const LoadOptions& options) {
  using nlohmann::ordered_json;
  ordered_json keys = ordered_json::array();
  for (const KeyReport& row : result.loaded.report) {
    ordered_json value = ordered_json::parse(row.value, nullptr, false);
    if (value.is_discarded()) value = row.value == "-" ? ordered_json(nullptr) : ordered_json(row.value);
    keys.push_back({{"path", row.path},
                    {"value", std::move(value)},
                    {"origin", name_of(row.origin)},
                    {"origin_detail", row.origin_detail},
                    {"fate", name_of(row.fate)},
                    {"note", row.note}});
  }
  ordered_json errors = ordered_json::array();
  for (const Issue& issue : result.issues) {
    errors.push_back({{"path", issue.path},
                      {"line", issue.line},
                      {"column", issue.column},
                      {"value", issue.value},
                      {"message", issue.message},
                      {"hint", issue.hint}});
  }
  const ordered_json document = {
      {"schema", "strata.config_check/1"}, {"strata_version", kVersion},       {"commit", kCommit},
      {"file", options.source_name},       {"world_size", options.world_size}, {"valid", result.issues.empty()},
      {"keys", std::move(keys)},           {"notices", result.loaded.notices}, {"errors", std::move(errors)}};
  return document.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace strata::config
