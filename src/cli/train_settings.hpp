// The settings of a training run as flat text: what the flags say, what run.json records, and how they differ.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace strata::cli {

/// One row per flag of `strata train` that is part of the run.
struct SettingRow {
  const char* key;
  const char* fallback;  ///< when neither the flag nor the record says anything
  enum class Change { kNeedsConsent, kFree } change;
};

[[nodiscard]] const std::vector<SettingRow>& setting_rows();

using Settings = std::vector<std::pair<std::string, std::string>>;

/// What runs: given flags over the record (when resuming) over the fallbacks, in the rows' order.
[[nodiscard]] Settings effective_settings(const std::map<std::string, std::string>& given, const Settings& recorded);

/// "sequence: 256 -> 512" for every given flag that differs from the record and needs consent.
[[nodiscard]] std::vector<std::string> changes_needing_consent(const std::map<std::string, std::string>& given,
                                                               const Settings& recorded);

[[nodiscard]] const std::string& setting(const Settings& settings, std::string_view key);

}  // namespace strata::cli
