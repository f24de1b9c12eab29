// The way from a DeepSpeed JSON file to a validated strata::Config. DeepSpeed's key names stop here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.hpp"
#include "strata/config.hpp"

namespace strata::config {

/// A value from the command line; it wins over the file's.
struct Override {
  std::string path;  ///< a JSON path of the key table, for example "strata.paths"
  std::variant<std::uint64_t, double, std::string, std::vector<std::string>> value;
  std::string flag;  ///< what the user typed, for example "--path"; named in reports and errors
};

/// What replaces "auto": the defaults of Hugging Face's TrainingArguments.
struct AutoValues {
  double lr = 5e-5;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  double max_grad_norm = 1.0;
  std::uint64_t micro_batch = 8;
  std::uint64_t accumulation = 1;
  std::uint64_t warmup_steps = 0;
  Precision precision = Precision::kFp32;
};

struct LoadOptions {
  std::string source_name = "config";                                ///< how errors name the text; load_file sets it
  std::uint32_t world_size = 1;                                      ///< data-parallel ranks
  std::optional<std::uint64_t> micro_batch = std::nullopt;           ///< --micro-batch
  std::optional<std::uint64_t> accumulation = std::nullopt;          ///< --accumulate
  std::optional<std::uint64_t> total_steps = std::nullopt;           ///< --steps: fills total_num_steps "auto"
  std::optional<std::uint64_t> hidden_size = std::nullopt;           ///< of the model: fills bucket sizes "auto"
  std::optional<std::uint64_t> fallback_micro_batch = std::nullopt;  ///< when no batch key is given; none: an error
  std::vector<Override> overrides = {};
  AutoValues auto_values = {};
};

/// Where a value came from.
enum class Origin : std::uint8_t { kFile, kDefault, kAutoFilled, kAlias, kCommandLine, kDerived };
/// What becomes of it.
enum class Fate : std::uint8_t { kObeyed, kUpperHint, kNoEffect, kRefused };

[[nodiscard]] std::string_view name_of(Origin origin);
[[nodiscard]] std::string_view name_of(Fate fate);

struct KeyReport {
  std::string path;   ///< "zero_optimization.stage"
  std::string value;  ///< as JSON text; "-": not set
  Origin origin = Origin::kDefault;
  std::string origin_detail;  ///< the alias or flag that was used; may be empty
  Fate fate = Fate::kObeyed;
  std::string note;
};

/// "file", "alias `thread_count`", "command line --micro-batch".
[[nodiscard]] std::string origin_text(const KeyReport& report);

struct LoadedConfig {
  Config config;
  std::vector<KeyReport> report;     ///< in the order of the key table
  std::vector<std::string> notices;  ///< one line each: warnings, and defaults that deserve to be said once
};

/// One thing that is wrong with a file.
struct Issue {
  std::string path;        ///< JSON path; empty when the text as a whole is meant
  std::size_t line = 0;    ///< from 1; 0: not in the text
  std::size_t column = 0;  ///< from 1, in bytes
  std::string value;       ///< as JSON text; may be empty
  std::string message;     ///< what is wrong and what is allowed
  std::string hint;        ///< what to do
};

/// "ds.json:3:12: zero_optimization.stage: 7 is not allowed: an integer from 0 to 3; ..."
[[nodiscard]] std::string to_line(const Issue& issue, std::string_view source_name);

/// Everything that can be said of a text, errors included. `loaded.config` is complete only when `issues` is empty.
struct CheckResult {
  LoadedConfig loaded;
  std::vector<Issue> issues;
};

/// Never fails; all errors are found in one go as far as they don't hide each other. Pure; any thread.
[[nodiscard]] CheckResult check_text(std::string_view text, const LoadOptions& options);

/// kConfig with one line per issue.
[[nodiscard]] Result<LoadedConfig> load_text(std::string_view text, const LoadOptions& options);
/// Reads at most 16 MiB; kConfig when the file can't be read.
[[nodiscard]] Result<LoadedConfig> load_file(const std::filesystem::path& path, LoadOptions options);
/// A JSON text (its first visible character is '{' or starts a comment), a path, or DeepSpeed's url-safe base64 of a
/// JSON text.
[[nodiscard]] Result<LoadedConfig> load(std::string_view path_or_text, LoadOptions options);

/// The file's text, for check_text.
[[nodiscard]] Result<std::string> read_config_text(const std::filesystem::path& path);

}  // namespace strata::config
