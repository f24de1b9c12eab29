// Short ways to load a configuration in tests.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "config/load.hpp"

namespace strata::config {

/// The members of a file that has a batch, an optimizer and clipping, and says nothing it need not.
inline std::string with_batch(std::string_view members) {
  std::string text = R"({"train_micro_batch_size_per_gpu": 2, "gradient_clipping": 1.0,)";
  text += R"("optimizer": {"type": "AdamW", "params": {"lr": 0.001}})";
  if (!members.empty()) text += ", ";
  return text + std::string(members) + "}";
}

inline LoadedConfig load_ok(std::string_view text, const LoadOptions& options = {}) {
  CheckResult result = check_text(text, options);
  for (const Issue& issue : result.issues) ADD_FAILURE() << to_line(issue, "text") << "\nin " << text;
  return std::move(result.loaded);
}

/// All errors, one line each.
inline std::string errors_of(std::string_view text, const LoadOptions& options = {}) {
  const auto loaded = load_text(text, options);
  return loaded ? std::string() : loaded.error().message;
}

inline KeyReport report_of(const LoadedConfig& loaded, std::string_view path) {
  const auto found = std::ranges::find(loaded.report, path, &KeyReport::path);
  if (found != loaded.report.end()) return *found;
  ADD_FAILURE() << "no report of " << path;
  return {};
}

inline bool notices_have(const LoadedConfig& loaded, std::string_view part) {
  return std::ranges::any_of(loaded.notices,
                             [part](const std::string& line) { return line.find(part) != std::string::npos; });
}

}  // namespace strata::config
