// What `strata config check` prints.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "config/load.hpp"

namespace strata::config {

/// Which rows a table shows: those that matter (given, filled, obeyed), or all of them.
enum class Rows : std::uint8_t { kRelevant, kAll };

/// A table of key, value, origin and fate, at most 120 columns wide; notes go below their row.
[[nodiscard]] std::string format_report(const LoadedConfig& loaded, Rows rows);

/// The document "strata.config_check/1".
[[nodiscard]] std::string check_document(const CheckResult& result, const LoadOptions& options);

}  // namespace strata::config
