#include "cli/train_command.hpp"

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "base/size_text.hpp"
#include "cli/progress.hpp"
#include "cli/report.hpp"
#include "cli/train_options.hpp"
#include "engine/trainer.hpp"

namespace strata::cli {
namespace {

namespace fs = std::filesystem;

// What a signal handler may touch.
std::atomic<bool> g_stop_requested{false};
std::atomic<bool> g_on_terminal{false};

void request_stop(int) {
  // A second Ctrl-C ends the process at once; the last commit stays.
  if (g_stop_requested.exchange(true)) std::_Exit(130);
  std::string_view text = "\nstopping after this step; interrupt again to stop at once, without it\n";
  if (!g_on_terminal) text.remove_prefix(1);  // there is no progress line to leave
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

void catch_interrupts() {
  g_on_terminal = ::isatty(STDERR_FILENO) == 1;
  struct sigaction action {};
  action.sa_handler = request_stop;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

struct Parsed {
  TrainFlags flags;
  std::vector<std::string> data;
  std::vector<std::string> paths;
  std::string out;
  bool in_memory = false;
};

/// As one setting: absolute, one on each line.
std::string joined(const std::vector<std::string>& paths) {
  std::string text;
  for (const auto& path : paths) {
    text += (text.empty() ? "" : "\n") + fs::absolute(path).lexically_normal().string();
  }
  return text;
}

void print_summary(const engine::TrainSummary& summary) {
  const auto row = [](const char* name, const std::string& value) { fmt::print("{:<22} {}\n", name, value); };
  row("parameters", fmt::format("{:.1f} M, state {}", static_cast<double>(summary.parameters) / 1e6,
                                format_size(summary.state)));
  for (std::size_t t = 0; t < 2; ++t) {
    row(fmt::format("{} memory", name_of(static_cast<Tier>(t))).c_str(),
        fmt::format("{} of {}", format_size(summary.peak[t]), format_size(summary.budget[t])));
  }
  row("disk", fmt::format("{} read, {} written", format_size(Bytes(summary.disk_read_bytes)),
                          format_size(Bytes(summary.disk_written_bytes))));
  if (summary.first_step > summary.last_step) {
    row("steps", fmt::format("none, {} were done before", summary.last_step));
  } else {
    row("steps", fmt::format("{} to {}", summary.first_step, summary.last_step));
    row("loss", fmt::format("{:.4f} -> {:.4f} (unigram entropy of the data {:.4f})", summary.first_loss,
                            summary.last_loss, summary.unigram_entropy));
    if (summary.tokens_per_s > 0) row("tokens/s", fmt::format("{:.0f}", summary.tokens_per_s));
  }
  row("state_digest", summary.state_digest);
}

Result<int> train(const TrainFlags& flags) {
  Progress progress;
  STRATA_ASSIGN(engine::TrainOptions options, train_options(flags));
  options.report = [&progress](std::string_view line) { progress.note(line); };
  options.on_step = [&progress](const engine::StepRecord& record) { progress.show(record); };
  options.stop = &g_stop_requested;
  const fs::path out = options.out;
  catch_interrupts();
  STRATA_ASSIGN(const auto trainer, engine::Trainer::open(std::move(options)));
  const auto summary = trainer->run();
  progress.close();
  if (!summary) return tl::unexpected(summary.error());
  print_summary(*summary);
  if (summary->reason == engine::EndReason::kInterrupted) {
    report_line(fmt::format("stopped after step {}, state saved; continue with: strata train --resume --out {}",
                            summary->last_step, out.string()));
    return 130;
  }
  return 0;
}

/// A Parsed with every path absolute and the config's text read.
Result<TrainFlags> complete(const Parsed& parsed) {
  TrainFlags flags = parsed.flags;
  flags.out = fs::absolute(parsed.out).lexically_normal();
  if (!parsed.data.empty()) flags.given["data"] = joined(parsed.data);
  if (!parsed.paths.empty()) flags.given["path"] = joined(parsed.paths);
  if (parsed.in_memory) flags.given["in_memory"] = "yes";
  for (const char* key : {"config", "model", "metrics"}) {
    const auto given = flags.given.find(key);
    if (given != flags.given.end()) given->second = joined({given->second});
  }
  if (const auto config = flags.given.find("config"); config != flags.given.end()) {
    STRATA_ASSIGN(flags.given["config_text"], read_text(config->second));
  }
  return flags;
}

}  // namespace

void add_train_command(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("train", "Train a model that may be larger than its memory budgets");
  auto parsed = std::make_shared<Parsed>();
  // Each takes one value; the last one counts, so that a script's flags can be added to.
  const auto option = [command, parsed](const char* name, const char* key, const char* type, const char* text) {
    const auto keep = [parsed, key](const std::string& value) { parsed->flags.given[key] = value; };
    return command->add_option_function<std::string>(name, keep, text)->type_name(type)->take_last();
  };
  command->add_option("--out", parsed->out, "The run's folder: settings, and state where no other path is given")
      ->required()
      ->type_name("DIR")
      ->take_last();
  command->add_flag("--resume", parsed->flags.resume, "Continue the run in --out; needs no other flag");
  command->add_flag("--allow-change", parsed->flags.allow_change,
                    "Resume although settings, data or model have changed");

  const std::string what = "What to train";
  option("--model", "model", "PATH", "Hugging Face config.json, or its folder (gpt2, llama)")->group(what);
  command->add_option("--data", parsed->data, "Text files or folders, read as bytes; by comma or repeated")
      ->delimiter(',')
      ->type_name("PATH")
      ->group(what);
  option("--config", "config", "FILE", "DeepSpeed JSON config [none: fp32, AdamW, lr 0.001, nothing offloaded]")
      ->group(what);
  option("--steps", "steps", "N", "Steps in total, those before a resume included [100]")->group(what);
  option("--sequence", "sequence", "N", "Tokens per sample [256]")->group(what);
  option("--micro-batch", "micro_batch", "N", "Samples per micro-batch [the config's, else 1]")->group(what);
  option("--accumulate", "accumulate", "N", "Micro-batches per step [the config's, else 1]")->group(what);
  option("--seed", "seed", "N", "Seed of weights and data order [42]")->group(what);

  const std::string where = "Where its bytes may be (SIZE: 512MiB, 4GiB, 100GB)";
  option("--device-memory", "device_memory", "SIZE", "For compute, activations included [40 % of what is available]")
      ->group(where);
  option("--host-memory", "host_memory", "SIZE", "For offloaded state and staging [40 % of what is available]")
      ->group(where);
  option("--disk-space", "disk_space", "SIZE", "For state on the paths [90 % of what is free]")->group(where);
  command->add_option("--path", parsed->paths, "Folders on the disks to offload to [the config's, else --out]")
      ->delimiter(',')
      ->type_name("DIR")
      ->group(where);
  command->add_flag("--in-memory", parsed->in_memory, "Offload nothing, whatever the config says")->group(where);

  const std::string how = "How it runs";
  option("--device", "device", "auto|cpu", "Where to compute [auto]")->group(how);
  option("--recompute", "recompute", "unit|none", "Recompute activations in backward, or keep them [unit]")->group(how);
  option("--threads", "threads", "N", "Threads of the optimizer [all cores]")->group(how);
  option("--metrics", "metrics", "FILE", "Append metrics to this JSON-lines file")->group(how);
  command->footer(
      "Example:\n"
      "  strata train --config configs/ds_demo.json --model configs/models/gpt2-tiny.json --data README.md \\\n"
      "      --sequence 64 --steps 20 --out run\n"
      "Ctrl-C stops after the step and saves. Exit codes: 0 done, 2 usage or config, 3 does not fit, 4 I/O or store,\n"
      "130 interrupted.");
  command->callback([parsed, &exit_code] {
    const auto flags = complete(*parsed);
    const auto result = flags ? train(*flags) : tl::unexpected(flags.error());
    exit_code = result ? *result : report_error(result.error());
  });
}

}  // namespace strata::cli
