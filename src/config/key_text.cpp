#include "config/key_text.hpp"

#include <cmath>

#include <fmt/format.h>

#include "config/key_table.hpp"

namespace strata::config {
namespace {

std::string number_text(double value) {
  if (std::abs(value) < 1e15 && value == std::floor(value)) return fmt::format("{:.0f}", value);
  return fmt::format("{}", value);
}

std::string range_text(const KeyRow& row, std::string_view what) {
  const bool below = std::isfinite(row.limits.least);
  const bool above = std::isfinite(row.limits.most);
  if (below && above && row.limits.least == row.limits.most)
    return fmt::format("only {}", number_text(row.limits.least));
  if (below && above) {
    return fmt::format("{} from {} to {}", what, number_text(row.limits.least), number_text(row.limits.most));
  }
  if (below) return fmt::format("{} >= {}", what, number_text(row.limits.least));
  return std::string(what);
}

std::string default_text(const KeyRow& row) {
  return row.fallback.empty() ? "not set" : fmt::format("`{}`", row.fallback);
}

std::string key_cell(const KeyRow& row, std::string_view block) {
  std::string text = fmt::format("`{}`", block.empty() ? row.path : row.path.substr(block.size() + 1));
  for (const std::string_view alias : parts_of(row.aliases)) text += fmt::format(", `{}`", alias);
  if (!row.only_for.empty()) text += fmt::format(" ({})", fmt::join(parts_of(row.only_for), ", "));
  return text;
}

std::string effect_cell(const KeyRow& row) {
  std::string text = treatment_text(row);
  if (!row.note.empty()) text += fmt::format(": {}", row.note);
  return text;
}

std::string table_of(std::string_view block) {
  std::string text = "| key | allowed | default | what becomes of it |\n|---|---|---|---|\n";
  for (const KeyRow* row : all_keys()) {
    const bool inside = block.empty() ? row->path.find('.') == std::string_view::npos
                                      : row->path.size() > block.size() && row->path.starts_with(block) &&
                                            row->path[block.size()] == '.';
    const bool heading =
        is_block(row->type) && row->type != Type::kFreeBlock && row->note.empty() && row->refuse == Refuse::kNever;
    if (!inside || heading) continue;
    text += fmt::format("| {} | {} | {} | {} |\n", key_cell(*row, block), allowed_text(*row), default_text(*row),
                        effect_cell(*row));
  }
  return text;
}

constexpr std::string_view kIntroduction = R"(# Configuration

Strata reads the DeepSpeed JSON file as it is. `strata config check FILE` prints the effective values, where each came
from, and what becomes of it; `strata config keys --markdown` prints this page from the table that the program uses.

- **Text.** JSON with comments (`//`, `/* */`, `#`) and trailing commas. A key that stands twice is an error. `5e8` is
  an integer. `"true"` and `"false"` count as booleans and are mentioned.
- **Unknown keys.** An error in the sections where DeepSpeed refuses them and in `"strata"`, elsewhere a warning; both
  name the nearest known key.
- **`"auto"`** is filled as Hugging Face's Trainer fills it; where it fills nothing, DeepSpeed's default counts.
- **Origins.** file, default, auto-filled, alias, command line, derived. The command line wins over the file.
- **Fates.** *Obeyed*. *Upper hint*: Strata measures and chooses, and goes no higher. *Accepted without effect*: results
  are the same with and without it. *Refused*: an error, because ignoring it would change results.
- **Sections that are refused** can be named in `strata.ignore_sections`: the run then trains without them and says so.
- **Batch.** `train_batch_size` = `train_micro_batch_size_per_gpu` x `gradient_accumulation_steps` x ranks; what is
  missing is derived as in DeepSpeed. When a flag changes one factor, the file's `train_batch_size` stays.
- **Paths.** `--path`, then `strata.paths`, then each section's `nvme_path`, then the run's folder.
- **Sizes.** Integer bytes, or a number with `KiB MiB GiB TiB` (binary) or `KB MB GB TB` (decimal).
)";

constexpr std::string_view kDeviations = R"(
## Where defaults differ from DeepSpeed's

| key | Strata | DeepSpeed |
|---|---|---|
| `data_types.grad_accum_dtype` | fp32 | the model's type |
| `bf16.check_grad_overflow` | a step that is not finite is skipped (`strata.skip_nonfinite`) | stage 3 applies it |
| `aio.queue_depth`, `aio.intra_op_parallelism` | 32, 8 | 8, 1 |
| `aio.thread_count`, `aio.num_threads` | other names of `intra_op_parallelism` | ignored |
| `nvme_path` missing | the run's folder | TypeError |

Defaults that change results and that users or versions disagree on are printed once when they apply:
`gradient_clipping` (1.0), `data_types.grad_accum_dtype`, `scheduler.params.warmup_max_lr`, `offload_*.device`.
)";

}  // namespace

std::string allowed_text(const KeyRow& row) {
  switch (row.type) {
    case Type::kBool: return "true or false";
    case Type::kInteger: return range_text(row, "an integer");
    case Type::kNumber: return range_text(row, "a number");
    case Type::kText: return name_in(row.path) == "nvme_path" ? "one path" : "a text";
    case Type::kChoice: return fmt::format("one of {}", fmt::join(parts_of(row.choices), ", "));
    case Type::kSize: return "a size above 0: bytes, or a text such as \"8GiB\"";
    case Type::kTextList: return "a list of texts";
    case Type::kBetas: return "two numbers from 0 to below 1";
    case Type::kCountOrAll: return "an integer >= 1, or \"all\"";
    case Type::kAny: return "any value";
    case Type::kStrictBlock:
    case Type::kPlainBlock:
    case Type::kFreeBlock: return "an object";
  }
  return "any value";
}

std::string treatment_text(const KeyRow& row) {
  if (!row.replaced_by.empty()) return fmt::format("read as `{}`", row.replaced_by);
  const std::string_view fate = name_of(row.fate);
  switch (row.refuse) {
    case Refuse::kNever: return std::string(fate);
    case Refuse::kAlways: return "refused";
    case Refuse::kWhenTrue: return "refused when true";
    case Refuse::kWhenFalse: return "refused when false";
    case Refuse::kWhenSet: return "refused when not empty";
    case Refuse::kWhenEnabled: return "refused when enabled";
    case Refuse::kWhenParallel: return "refused above 1";
    case Refuse::kRefusedChoices:
      return fmt::format("{} (refused: {})", fate, fmt::join(parts_of(row.refused_choices), ", "));
  }
  return std::string(fate);
}

std::string keys_list() {
  std::string text;
  std::string_view last;
  for (const KeyRow* row : all_keys()) {
    if (row->path != last) text += fmt::format("{}\n", row->path);
    last = row->path;
  }
  return text;
}

std::string keys_markdown() {
  std::string text(kIntroduction);
  text += "\n## `strata`: what only Strata knows\n\n" + table_of("strata");
  text += kDeviations;
  text += "\n## Top level\n\n" + table_of({});
  constexpr std::string_view kSections[] = {"zero_optimization",
                                            "bf16",
                                            "fp16",
                                            "torch_autocast",
                                            "data_types",
                                            "optimizer",
                                            "scheduler",
                                            "aio",
                                            "activation_checkpointing",
                                            "checkpoint",
                                            "nebula",
                                            "compile",
                                            "hybrid_engine",
                                            "timers",
                                            "flops_profiler",
                                            "comms_logger",
                                            "tensorboard",
                                            "csv_monitor",
                                            "wandb",
                                            "comet",
                                            "autotuning"};
  for (const std::string_view section : kSections) text += fmt::format("\n## `{}`\n\n{}", section, table_of(section));
  return text;
}

}  // namespace strata::config
