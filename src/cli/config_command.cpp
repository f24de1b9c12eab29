#include "cli/config_command.hpp"

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "cli/report.hpp"
#include "config/key_text.hpp"
#include "config/load.hpp"
#include "config/report_text.hpp"

namespace strata::cli {
namespace {

struct Flags {
  std::string file;
  std::uint32_t world_size = 1;
  std::optional<std::uint64_t> hidden_size;
  std::optional<std::uint64_t> steps;
  std::optional<std::uint64_t> micro_batch;
  std::optional<std::uint64_t> accumulate;
  bool json = false;
  bool all = false;
  bool markdown = false;
};

/// False when stdout did not take it all, for example because the disk is full.
[[nodiscard]] bool print(const std::string& text) {
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
}

int output_failed() {
  return report_error(Error{ErrorCode::kIo, errno, "standard output can't be written", "check where it goes"});
}

int check(const Flags& flags) {
  config::LoadOptions options;
  options.source_name = flags.file;
  options.world_size = flags.world_size;
  options.hidden_size = flags.hidden_size;
  options.total_steps = flags.steps;
  options.micro_batch = flags.micro_batch;
  options.accumulation = flags.accumulate;
  config::CheckResult result;
  if (const auto text = config::read_config_text(flags.file)) {
    result = config::check_text(*text, options);
  } else if (!flags.json) {
    return report_error(text.error());
  } else {
    result.issues.push_back(
        config::Issue{.path = {}, .value = {}, .message = text.error().message, .hint = text.error().hint});
  }
  const auto rows = flags.all ? config::Rows::kAll : config::Rows::kRelevant;
  const bool table = !flags.json && !result.loaded.report.empty();
  const std::string text = flags.json ? config::check_document(result, options)
                           : table    ? config::format_report(result.loaded, rows)
                                      : std::string();
  if (!print(text)) return output_failed();
  if (!flags.json) {
    for (const std::string& notice : result.loaded.notices) report_line("notice: " + notice);
  }
  for (const config::Issue& issue : result.issues) report_line("strata: " + to_line(issue, options.source_name));
  return result.issues.empty() ? 0 : exit_code_of(ErrorCode::kConfig);
}

}  // namespace

void add_config_command(CLI::App& app, int& exit_code) {
  auto* config = app.add_subcommand("config", "Check a configuration file, list the known keys");
  config->require_subcommand(1);

  auto flags = std::make_shared<Flags>();
  auto* command = config->add_subcommand("check", "Print the effective values, their origin and what becomes of them");
  command->add_option("file", flags->file, "DeepSpeed JSON file")->required();
  command->add_flag("--json", flags->json, "Print a document of schema strata.config_check/1");
  command->add_flag("--all", flags->all, "Show every known key, also those at their defaults without effect");
  const auto positive = CLI::Range(std::uint64_t{1}, std::uint64_t{2147483647});
  command->add_option("--world-size", flags->world_size, "Data-parallel ranks (1)")->check(positive);
  command->add_option("--hidden-size", flags->hidden_size, "Of the model; fills bucket sizes \"auto\"")
      ->check(positive);
  command->add_option("--steps", flags->steps, "Steps of the run; fills total_num_steps \"auto\"")->check(positive);
  command->add_option("--micro-batch", flags->micro_batch, "As for strata train")->check(positive);
  command->add_option("--accumulate", flags->accumulate, "As for strata train")->check(positive);
  command->callback([flags, &exit_code] { exit_code = check(*flags); });

  auto* keys = config->add_subcommand("keys", "List every known key");
  keys->add_flag("--markdown", flags->markdown, "The page docs/config.md; without it one path per line");
  keys->callback([flags, &exit_code] {
    exit_code = print(flags->markdown ? config::keys_markdown() : config::keys_list()) ? 0 : output_failed();
  });
}

}  // namespace strata::cli
