// The strata program: one subcommand per file.
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>

#include "base/version.hpp"
#include "cli/config_command.hpp"
#include "cli/run_commands.hpp"
#ifdef STRATA_HAVE_TORCH
#include "cli/thread_waiting.hpp"
#include "cli/train_command.hpp"
#endif

namespace {

int run(int argc, char** argv) {
  CLI::App app{"Strata trains models that are larger than the memory of the device that computes them."};
  app.set_version_flag("--version", std::string("strata ") + strata::kVersion + " (" + strata::kCommit + ")");
  app.require_subcommand(1);
  int exit_code = 0;
#ifdef STRATA_HAVE_TORCH
  strata::cli::add_train_command(app, exit_code);
#else
  app.footer("Built without LibTorch: `train` is not here.");
#endif
  strata::cli::add_config_command(app, exit_code);
  strata::cli::add_run_commands(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // CLI11 has exit codes and words of its own; ours: help and version 0, usage 2, one line.
    if (error.get_exit_code() == 0) return app.exit(error);
    std::string command = "strata";
    for (const CLI::App* used = &app; !used->get_subcommands().empty();) {
      used = used->get_subcommands().front();
      command += " " + used->get_name();
    }
    const bool unknown = argc > 1 && argv[1][0] != '-' && app.get_subcommands().empty();
    const std::string what = unknown ? std::string("there is no command '") + argv[1] + "'" : error.what();
    std::fprintf(stderr, "strata: %s; see %s --help\n", what.c_str(), command.c_str());
    return 2;
  }
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
#ifdef STRATA_HAVE_TORCH
  if (argc > 1 && std::string_view(argv[1]) == "train") strata::cli::wait_passively(argv);
#endif
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "strata: internal error: %s\n", error.what());
    return 1;
  }
}
