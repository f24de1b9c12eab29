#include "cli/train_settings.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/check.hpp"

namespace strata::cli {
namespace {

const std::string* find(const Settings& settings, std::string_view key) {
  for (const auto& [name, value] : settings) {
    if (name == key) return &value;
  }
  return nullptr;
}

}  // namespace

const std::vector<SettingRow>& setting_rows() {
  using Change = SettingRow::Change;
  static const std::vector<SettingRow> rows = {
      {"config", "", Change::kNeedsConsent},
      {"config_text", "", Change::kNeedsConsent},
      {"model", "", Change::kNeedsConsent},
      {"model_text", "", Change::kNeedsConsent},
      {"data", "", Change::kNeedsConsent},
      {"steps", "100", Change::kFree},
      {"sequence", "256", Change::kNeedsConsent},
      {"micro_batch", "", Change::kNeedsConsent},
      {"accumulate", "", Change::kNeedsConsent},
      {"seed", "42", Change::kNeedsConsent},
      {"path", "", Change::kNeedsConsent},
      {"device", "auto", Change::kNeedsConsent},
      {"device_memory", "", Change::kNeedsConsent},
      {"host_memory", "", Change::kNeedsConsent},
      {"disk_space", "", Change::kNeedsConsent},
      {"recompute", "unit", Change::kNeedsConsent},
      {"threads", "0", Change::kNeedsConsent},
      {"in_memory", "no", Change::kNeedsConsent},
      {"metrics", "", Change::kFree},
  };
  return rows;
}

Settings effective_settings(const std::map<std::string, std::string>& given, const Settings& recorded) {
  Settings settings;
  for (const SettingRow& row : setting_rows()) {
    const auto flag = given.find(row.key);
    const std::string* old = find(recorded, row.key);
    settings.emplace_back(row.key, flag != given.end() ? flag->second : old != nullptr ? *old : row.fallback);
  }
  return settings;
}

std::vector<std::string> changes_needing_consent(const std::map<std::string, std::string>& given,
                                                 const Settings& recorded) {
  std::vector<std::string> changes;
  for (const SettingRow& row : setting_rows()) {
    const auto flag = given.find(row.key);
    const std::string* old = find(recorded, row.key);
    if (flag == given.end() || old == nullptr || flag->second == *old) continue;
    // Of files the content counts, not where they lie.
    const std::string key = row.key;
    if (row.change == SettingRow::Change::kFree || key == "config" || key == "model") continue;
    if (const auto end = key.find("_text"); end != std::string::npos) {
      changes.push_back(key.substr(0, end) + ": its content has changed");
      continue;
    }
    const auto shown = [](std::string value) {
      std::ranges::replace(value, '\n', ',');
      return value.empty() ? std::string("not given") : value;
    };
    changes.push_back(fmt::format("{}: {} -> {}", key, shown(*old), shown(flag->second)));
  }
  return changes;
}

const std::string& setting(const Settings& settings, std::string_view key) {
  const std::string* value = find(settings, key);
  STRATA_CHECK(value != nullptr, "a setting that no row names");
  return *value;
}

}  // namespace strata::cli
