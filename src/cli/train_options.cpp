#include "cli/train_options.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <sys/stat.h>

#include "base/size_text.hpp"
#include "base/system_memory.hpp"
#include "cli/report.hpp"
#include "cli/train_settings.hpp"
#include "config/load.hpp"
#include "engine/run_folder.hpp"
#include "io/file.hpp"
#include "model/model.hpp"

namespace strata::cli {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> split(const std::string& text) {
  std::vector<fs::path> items;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (!line.empty()) items.emplace_back(line);
  }
  return items;
}

/// "micro_batch" -> "--micro-batch".
std::string flag_name(std::string key) {
  std::ranges::replace(key, '_', '-');
  return "--" + key;
}

Result<std::uint64_t> number(const Settings& settings, const std::string& key, std::uint64_t least) {
  const std::string& text = setting(settings, key);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least) {
    return fail(ErrorCode::kUsage, fmt::format("{} is '{}'", flag_name(key), text),
                fmt::format("give a whole number of at least {}", least));
  }
  return value;
}

struct Budgets {
  Bytes device;
  Bytes host;
  Bytes disk;
};

/// What is free for the run's data files: on each file system once, with what they already take there.
Result<Bytes> room_on(const std::vector<fs::path>& paths, Bytes taken) {
  Bytes total = taken;
  std::vector<dev_t> seen;
  for (fs::path path : paths) {
    while (path.has_relative_path() && !fs::exists(path)) path = path.parent_path();
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0 || std::ranges::count(seen, status.st_dev) != 0) continue;
    seen.push_back(status.st_dev);
    STRATA_ASSIGN(const Bytes free, io::free_space(path));
    total += free;
  }
  return total;
}

/// Order: flag, `strata` section, what is free. On a CPU-only run device and host are the same memory, so what is free
/// is shared between them.
Result<Budgets> budgets(const Settings& settings, const Config& config, Bytes room) {
  Budgets result;
  STRATA_ASSIGN(const Bytes available, available_memory());
  struct Row {
    const char* key;
    std::optional<Bytes> configured;
    Bytes fallback;
    Bytes* to;
    const char* origin;
  };
  const Row rows[] = {
      {"device_memory", config.strata.device_memory, available / 10 * 4, &result.device, "40 % of available memory"},
      {"host_memory", config.strata.host_memory, available / 10 * 4, &result.host, "40 % of available memory"},
      {"disk_space", config.strata.disk_space, room / 10 * 9, &result.disk, "90 % of the free space"}};
  for (const Row& row : rows) {
    const std::string& text = setting(settings, row.key);
    const char* origin = "command line";
    if (!text.empty()) {
      const auto size = parse_size(text);
      if (!size) {
        return fail(ErrorCode::kUsage, fmt::format("{}: {}", flag_name(row.key), size.error().message),
                    size.error().hint);
      }
      *row.to = *size;
    } else if (row.configured) {
      *row.to = *row.configured;
      origin = "config file";
    } else {
      *row.to = row.fallback;
      origin = row.origin;
    }
    report_line(fmt::format("{}: {} ({})", row.key, format_size(*row.to), origin));
  }
  if (result.device + result.host > available) {
    report_line(fmt::format("device_memory and host_memory together are more than the {} of memory that is available",
                            format_size(available)));
  }
  return result;
}

Result<Config> load_config(const Settings& settings, std::int64_t hidden_size) {
  config::LoadOptions options;
  if (!setting(settings, "config").empty()) options.source_name = setting(settings, "config");
  options.fallback_micro_batch = 1;
  options.hidden_size = static_cast<std::uint64_t>(hidden_size);
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

/// The model's config.json as it is now; a run must go on with the one that it began with.
fs::path model_file(const fs::path& model) {
  return fs::is_directory(model) ? model / "config.json" : model;
}

Status check_changes(const TrainFlags& flags, const Settings& recorded) {
  const auto changes = changes_needing_consent(flags.given, recorded);
  for (const auto& change : changes) report_line("changed " + change);
  if (std::ranges::any_of(changes, [](const std::string& change) { return change.starts_with("path:"); })) {
    return fail(ErrorCode::kUsage, "the paths of a run can't change (listed above)", "leave --path out");
  }
  if (changes.empty() || flags.allow_change) return {};
  return fail(ErrorCode::kUsage, fmt::format("{} of the run's settings would change (listed above)", changes.size()),
              "add --allow-change, or leave the flags out");
}

Status check_words(const Settings& settings) {
  struct Row {
    const char* key;
    std::vector<std::string> words;
    const char* hint;
  };
  const Row rows[] = {{"device", {"auto", "cpu"}, "give auto or cpu"},
                      {"recompute", {"unit", "none"}, "give unit or none"}};
  for (const Row& row : rows) {
    const std::string& word = setting(settings, row.key);
    if (std::ranges::count(row.words, word) != 0) continue;
    return fail(ErrorCode::kUsage, fmt::format("{} is '{}'", flag_name(row.key), word), row.hint);
  }
  return {};
}

/// What `--resume` finds in the run's folder; empty for a new run.
struct Found {
  Settings settings;
  std::vector<fs::path> paths;
  Bytes taken;
};

Result<Found> find_run(const TrainFlags& flags, const fs::path& out) {
  if (!flags.resume) return Found{};
  STRATA_ASSIGN(const engine::RunRecord record, engine::read_run(out));
  return Found{record.settings, record.paths, engine::data_bytes(record)};
}

}  // namespace

Result<std::string> read_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in || fs::is_directory(file)) {
    return fail(ErrorCode::kUsage, fmt::format("cannot read '{}'", file.string()), "give a readable file");
  }
  return text.str();
}

Result<engine::TrainOptions> train_options(TrainFlags flags) {
  const fs::path out = flags.out;
  STRATA_ASSIGN(const Found found, find_run(flags, out));
  const std::string model = setting(effective_settings(flags.given, found.settings), "model");
  if (model.empty()) return fail(ErrorCode::kUsage, "no model", "give --model DIR or config.json");
  STRATA_ASSIGN(const auto shape, model::load_model(model));
  STRATA_ASSIGN(flags.given["model_text"], read_text(model_file(model)));
  STRATA_TRY(check_changes(flags, found.settings));
  const Settings settings = effective_settings(flags.given, found.settings);
  if (setting(settings, "data").empty()) return fail(ErrorCode::kUsage, "no data", "give --data PATH...");
  STRATA_TRY(check_words(settings));

  engine::TrainOptions options;
  STRATA_ASSIGN(options.steps, number(settings, "steps", 1));
  STRATA_ASSIGN(const std::uint64_t sequence, number(settings, "sequence", 1));
  options.sequence = static_cast<std::int64_t>(std::min<std::uint64_t>(sequence, 1u << 30));
  STRATA_ASSIGN(options.seed, number(settings, "seed", 0));
  STRATA_ASSIGN(const std::uint64_t threads, number(settings, "threads", 0));
  STRATA_ASSIGN(options.config, load_config(settings, shape->hidden_size()));
  options.model = model;
  options.data = split(setting(settings, "data"));
  options.optimizer_threads = static_cast<std::uint32_t>(
      threads != 0 ? threads : options.config.strata.cpu_cores.value_or(0));
  options.out = out;
  options.opening = flags.resume ? engine::Opening::kResume : engine::Opening::kNew;
  options.changed_inputs = flags.allow_change ? engine::ChangedInputs::kAllow : engine::ChangedInputs::kRefuse;
  options.paths = flags.resume ? found.paths : choose_paths(settings, options.config, out);
  STRATA_ASSIGN(const Bytes room, room_on(options.paths, found.taken));
  STRATA_ASSIGN(const Budgets given, budgets(settings, options.config, room));
  options.device_memory = given.device;
  options.host_memory = given.host;
  options.disk_space = given.disk;
  if (!setting(settings, "metrics").empty()) options.metrics = fs::path(setting(settings, "metrics"));
  options.mode = setting(settings, "in_memory") == "yes" ? engine::Mode::kInMemory : engine::Mode::kOffloaded;
  options.recompute =
      setting(settings, "recompute") == "unit" ? engine::Recompute::kPerUnit : engine::Recompute::kNone;
  options.settings = settings;
  return options;
}

}  // namespace strata::cli
