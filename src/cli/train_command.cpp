#include "cli/train_command.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <fstream>
#include <sstream>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "base/size_text.hpp"
#include "base/system_memory.hpp"
#include "cli/report.hpp"
#include "cli/train_settings.hpp"
#include "config/load.hpp"
#include "engine/run_folder.hpp"
#include "engine/trainer.hpp"
#include "io/file.hpp"

namespace strata::cli {
namespace {

namespace fs = std::filesystem;

/// The one thing that a signal handler may touch.
std::atomic<bool> g_stop_requested{false};

void request_stop(int) {
  // A second Ctrl-C ends the process at once; the last commit stays.
  if (g_stop_requested.exchange(true)) std::_Exit(130);
}

struct Flags {
  std::map<std::string, std::string> given;  ///< by setting key
  std::vector<std::string> data;
  std::vector<std::string> paths;
  std::string out;
  std::string metrics;
  bool resume = false;
  bool allow_change = false;
  bool in_memory = false;
};

std::string join(const std::vector<std::string>& items) {
  std::string text;
  for (const auto& item : items) text += (text.empty() ? "" : "\n") + item;
  return text;
}

std::vector<fs::path> split(const std::string& text) {
  std::vector<fs::path> items;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (!line.empty()) items.emplace_back(line);
  }
  return items;
}

std::vector<std::string> absolute(const std::vector<std::string>& paths) {
  std::vector<std::string> result;
  for (const auto& path : paths) result.push_back(fs::absolute(path).lexically_normal().string());
  return result;
}

Result<std::string> read_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in || fs::is_directory(file)) {
    return fail(ErrorCode::kUsage, fmt::format("cannot read '{}'", file.string()), "give a readable file");
  }
  return text.str();
}

Result<std::uint64_t> number(const Settings& settings, const std::string& key, std::uint64_t least) {
  const std::string& text = setting(settings, key);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least) {
    return fail(ErrorCode::kUsage, fmt::format("--{} is '{}'", key, text),
                fmt::format("give a whole number of at least {}", least));
  }
  return value;
}

struct Budgets {
  Bytes device;
  Bytes host;
  Bytes disk;
};

/// Order: flag, `strata` section, what is free. On a CPU-only run device and host are the same memory, so what is free is
/// shared between them.
Result<Budgets> budgets(const Settings& settings, const Config& config, const fs::path& disk) {
  Budgets result;
  STRATA_ASSIGN(const Bytes available, available_memory());
  struct Row {
    const char* key;
    std::optional<Bytes> configured;
    Bytes fallback;
    Bytes* to;
    const char* origin;
  };
  fs::path existing = disk;
  while (!existing.empty() && !fs::exists(existing)) existing = existing.parent_path();
  STRATA_ASSIGN(const Bytes free, io::free_space(existing.empty() ? fs::path("/") : existing));
  const Row rows[] = {
      {"device_memory", config.strata.device_memory, available / 10 * 4, &result.device, "40 % of available memory"},
      {"host_memory", config.strata.host_memory, available / 10 * 4, &result.host, "40 % of available memory"},
      {"disk_space", config.strata.disk_space, free / 10 * 9, &result.disk, "90 % of the free space"}};
  for (const Row& row : rows) {
    const std::string& text = setting(settings, row.key);
    const char* origin = "command line";
    if (!text.empty()) {
      STRATA_ASSIGN(*row.to, parse_size(text));
    } else if (row.configured) {
      *row.to = *row.configured;
      origin = "config file";
    } else {
      *row.to = row.fallback;
      origin = row.origin;
    }
    report_line(fmt::format("{}: {} ({})", row.key, format_size(*row.to), origin));
  }
  return result;
}

Result<Config> load_config(const Settings& settings) {
  config::LoadOptions options;
  if (!setting(settings, "micro_batch").empty()) {
    STRATA_ASSIGN(options.micro_batch, number(settings, "micro_batch", 1));
  }
  if (!setting(settings, "accumulate").empty()) {
    STRATA_ASSIGN(options.accumulation, number(settings, "accumulate", 1));
  }
  STRATA_ASSIGN(options.total_steps, number(settings, "steps", 1));
  const std::string& text = setting(settings, "config_text");
  STRATA_ASSIGN(config::LoadedConfig loaded, config::load_text(text.empty() ? "{}" : text, options));
  for (const std::string& notice : loaded.notices) report_line(notice);
  return loaded.config;
}

/// `--path` > `strata.paths` > the sections' nvme_path > `--out`.
std::vector<fs::path> choose_paths(const Settings& settings, const Config& config, const fs::path& out) {
  std::vector<fs::path> paths = split(setting(settings, "path"));
  if (paths.empty()) paths.assign(config.strata.paths.begin(), config.strata.paths.end());
  for (const auto& section : {config.zero.offload_optimizer.nvme_path, config.zero.offload_param.nvme_path}) {
    if (paths.empty() && section) paths.emplace_back(*section);
  }
  if (paths.empty()) paths.push_back(out);
  return paths;
}

class Progress {
 public:
  Progress() : terminal_(::isatty(STDERR_FILENO) == 1) {}

  void show(const engine::StepRecord& record) {
    const auto now = std::chrono::steady_clock::now();
    const bool last = record.step == record.total_steps;
    if (!terminal_ && !last && shown_ && now - last_shown_ < std::chrono::seconds(2)) return;
    last_shown_ = now;
    shown_ = true;
    const double disk = static_cast<double>(sum(record, "disk_read:0") + sum(record, "disk_write:0"));
    const double left = static_cast<double>(record.total_steps - record.step) * record.step_s;
    std::string line = fmt::format(
        "step {}/{}  loss {:.4f}  lr {:.2e}  {:.0f} tokens/s  disk {:.2f} GB/s  device {}  host {}  {:.0f} s left",
        record.step, record.total_steps, record.loss, record.lr,
        static_cast<double>(record.tokens) / record.step_s, disk / record.step_s / 1e9,
        format_size(record.peak[0]), format_size(record.peak[1]), left);
    if (record.skipped) line += fmt::format("  skipped: {}", record.skip_reason);
    if (terminal_) {
      std::fprintf(stderr, "\r\x1b[K%s%s", line.c_str(), last ? "\n" : "");
    } else {
      report_line(line);
    }
    std::fflush(stderr);
  }

  void close() const {
    if (terminal_ && shown_) std::fputc('\n', stderr);
  }

 private:
  static std::uint64_t sum(const engine::StepRecord& record, const char* lane) {
    const auto found = record.bytes.find(lane);
    return found == record.bytes.end() ? 0 : found->second;
  }

  bool terminal_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point last_shown_;
};

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
  row("steps", fmt::format("{} to {}", summary.first_step, summary.last_step));
  row("loss", fmt::format("{:.4f} -> {:.4f} (unigram entropy of the data {:.4f})", summary.first_loss,
                          summary.last_loss, summary.unigram_entropy));
  row("tokens/s", fmt::format("{:.0f}", summary.tokens_per_s));
  row("state_digest", summary.state_digest);
}

Result<engine::TrainOptions> options_from(const Flags& flags, Settings& settings) {
  engine::Opening opening = engine::Opening::kNew;
  const fs::path out = fs::absolute(flags.out).lexically_normal();
  Settings recorded;
  std::vector<fs::path> recorded_paths;
  if (flags.resume) {
    opening = engine::Opening::kResume;
    STRATA_ASSIGN(const engine::RunRecord record, engine::read_run(out));
    recorded = record.settings;
    recorded_paths = record.paths;
    const auto changes = changes_needing_consent(flags.given, recorded);
    for (const auto& change : changes) report_line("changed " + change);
    if (!changes.empty() && !flags.allow_change) {
      return fail(ErrorCode::kUsage, fmt::format("{} of the run's settings would change (listed above)", changes.size()),
                  "add --allow-change, or leave the flags out");
    }
  }
  settings = effective_settings(flags.given, recorded);
  if (setting(settings, "model").empty()) return fail(ErrorCode::kUsage, "no model", "give --model DIR or config.json");
  if (setting(settings, "data").empty()) return fail(ErrorCode::kUsage, "no data", "give --data PATH...");
  if (const auto& device = setting(settings, "device"); device != "auto" && device != "cpu") {
    return fail(ErrorCode::kUsage, fmt::format("--device is '{}'", device), "give auto or cpu");
  }
  const std::string& recompute = setting(settings, "recompute");
  if (recompute != "unit" && recompute != "none") {
    return fail(ErrorCode::kUsage, fmt::format("--recompute is '{}'", recompute), "give unit or none");
  }

  engine::TrainOptions options;
  STRATA_ASSIGN(options.config, load_config(settings));
  options.model = setting(settings, "model");
  options.data = split(setting(settings, "data"));
  STRATA_ASSIGN(options.steps, number(settings, "steps", 1));
  STRATA_ASSIGN(const std::uint64_t sequence, number(settings, "sequence", 1));
  options.sequence = static_cast<std::int64_t>(std::min<std::uint64_t>(sequence, 1u << 30));
  STRATA_ASSIGN(options.seed, number(settings, "seed", 0));
  STRATA_ASSIGN(const std::uint64_t threads, number(settings, "threads", 0));
  options.optimizer_threads = static_cast<std::uint32_t>(
      threads != 0 ? threads : options.config.strata.cpu_cores.value_or(0));
  options.out = out;
  options.opening = opening;
  options.paths = flags.resume ? recorded_paths : choose_paths(settings, options.config, out);
  STRATA_ASSIGN(const Budgets given, budgets(settings, options.config, options.paths.front()));
  options.device_memory = given.device;
  options.host_memory = given.host;
  options.disk_space = given.disk;
  if (!flags.metrics.empty()) options.metrics = fs::path(flags.metrics);
  options.mode = setting(settings, "in_memory") == "yes" ? engine::Mode::kInMemory : engine::Mode::kOffloaded;
  options.recompute = recompute == "unit" ? engine::Recompute::kPerUnit : engine::Recompute::kNone;
  options.settings = settings;
  return options;
}

Result<int> train(const Flags& flags) {
  Settings settings;
  STRATA_ASSIGN(engine::TrainOptions options, options_from(flags, settings));
  Progress progress;
  options.report = [](std::string_view line) { report_line(line); };
  options.on_step = [&progress](const engine::StepRecord& record) { progress.show(record); };
  options.stop = &g_stop_requested;
  const fs::path out = options.out;
  STRATA_ASSIGN(const auto trainer, engine::Trainer::open(std::move(options)));

  struct sigaction action {};
  action.sa_handler = request_stop;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
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

}  // namespace

void add_train_command(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("train", "Train a model that may be larger than its memory budgets");
  auto flags = std::make_shared<Flags>();
  auto keep = [flags](const char* key) {
    return [flags, key](const std::string& value) { flags->given[key] = value; };
  };
  command->add_option_function<std::string>("--config", [flags](const std::string& value) {
    flags->given["config"] = fs::absolute(value).lexically_normal().string();
  }, "DeepSpeed JSON config");
  command->add_option_function<std::string>("--model", [flags](const std::string& value) {
    flags->given["model"] = fs::absolute(value).lexically_normal().string();
  }, "Hugging Face config.json, or its folder (gpt2, llama)");
  command->add_option("--data", flags->data, "Text files or folders, read as bytes")->delimiter(',');
  command->add_option_function<std::string>("--steps", keep("steps"), "Steps in total (100)");
  command->add_option_function<std::string>("--sequence", keep("sequence"), "Tokens per sample (256)");
  command->add_option_function<std::string>("--micro-batch", keep("micro_batch"), "Samples per micro-batch");
  command->add_option_function<std::string>("--accumulate", keep("accumulate"), "Micro-batches per step");
  command->add_option_function<std::string>("--seed", keep("seed"), "Seed of weights and data order (42)");
  command->add_option("--out", flags->out, "The run's folder")->required();
  command->add_option("--path", flags->paths, "Folders on the disks to offload to")->delimiter(',');
  command->add_option_function<std::string>("--device", keep("device"), "auto or cpu");
  command->add_option_function<std::string>("--device-memory", keep("device_memory"), "Budget, e.g. 512MiB");
  command->add_option_function<std::string>("--host-memory", keep("host_memory"), "Budget, e.g. 4GiB");
  command->add_option_function<std::string>("--disk-space", keep("disk_space"), "Budget, e.g. 100GB");
  command->add_option_function<std::string>("--recompute", keep("recompute"), "unit or none (unit)");
  command->add_option_function<std::string>("--threads", keep("threads"), "Optimizer threads (all cores)");
  command->add_option("--metrics", flags->metrics, "Write metrics to this JSON-lines file");
  command->add_flag("--in-memory", flags->in_memory, "Offload nothing");
  command->add_flag("--resume", flags->resume, "Continue the run in --out");
  command->add_flag("--allow-change", flags->allow_change, "Resume although settings differ");
  command->callback([flags, &exit_code] {
    if (!flags->data.empty()) flags->given["data"] = join(absolute(flags->data));
    if (!flags->paths.empty()) flags->given["path"] = join(absolute(flags->paths));
    if (flags->in_memory) flags->given["in_memory"] = "yes";
    if (const auto config = flags->given.find("config"); config != flags->given.end()) {
      auto text = read_text(config->second);
      if (!text) {
        exit_code = report_error(text.error());
        return;
      }
      flags->given["config_text"] = *std::move(text);
    }
    const auto result = train(*flags);
    exit_code = result ? *result : report_error(result.error());
  });
}

}  // namespace strata::cli
