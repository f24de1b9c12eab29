#include "cli/run_commands.hpp"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/version.hpp"
#include "cli/report.hpp"
#include "engine/run_reader.hpp"
#include "engine/state_digest.hpp"

namespace strata::cli {
namespace {

struct DigestFlags {
  std::string run;
  bool per_tensor = false;
  bool json = false;
};

Status print_digest(const DigestFlags& flags) {
  STRATA_ASSIGN(const auto run, engine::RunReader::open(flags.run));
  std::vector<engine::TensorDigest> tensors;
  STRATA_ASSIGN(const std::string state,
                engine::digest_state(run->layouts(), run->objects(), run->tiers(), run->applied_steps(),
                                     flags.per_tensor ? &tensors : nullptr));
  const tiers::CommitRecord committed = run->committed();
  const std::string resume = engine::digest_metadata(committed.metadata);
  if (flags.json) {
    nlohmann::json document = {{"schema", "strata.digest/1"},
                               {"strata_version", kVersion},
                               {"commit", kCommit},
                               {"run_id", run->record().run_id},
                               {"step", committed.step},
                               {"applied_steps", run->applied_steps()},
                               {"world_size", run->record().world_size},
                               {"state_digest", state},
                               {"resume_digest", resume}};
    for (const auto& tensor : tensors) document["tensors"][tensor.name] = tensor.digest;
    fmt::print("{}\n", document.dump(2));
    return {};
  }
  for (const auto& tensor : tensors) fmt::print("{}  {}\n", tensor.digest, tensor.name);
  fmt::print("state_digest   {}\nresume_digest  {}\nstep {} ({} applied), {} rank; comparable within equal seed, world "
             "size, device kind and torch version\n",
             state, resume, committed.step, run->applied_steps(), run->record().world_size);
  return {};
}

struct ExportFlags {
  std::string run;
  std::string to;
  std::string what = "state";
};

Status export_run(const ExportFlags& flags) {
  STRATA_ASSIGN(const auto run, engine::RunReader::open(flags.run));
  std::error_code failed;
  std::filesystem::create_directories(flags.to, failed);
  if (failed) {
    return fail(ErrorCode::kUsage, fmt::format("cannot make the folder '{}'", flags.to), "give a writable --to",
                failed.value());
  }
  const auto file = std::filesystem::path(flags.to) / "state.safetensors";
  STRATA_TRY(engine::export_state(file, run->layouts(), run->objects(), run->tiers(), run->applied_steps()));
  fmt::print("{}\n", file.string());
  return {};
}

}  // namespace

void add_run_commands(CLI::App& app, int& exit_code) {
  auto* digest = app.add_subcommand("digest", "Print the digests of a run's committed state");
  auto digest_flags = std::make_shared<DigestFlags>();
  digest->add_option("run", digest_flags->run, "The run's folder")->required();
  digest->add_flag("--per-tensor", digest_flags->per_tensor, "One line per parameter and kind of state too");
  digest->add_flag("--json", digest_flags->json, "Print a JSON document");
  digest->callback([digest_flags, &exit_code] {
    if (const auto status = print_digest(*digest_flags); !status) exit_code = report_error(status.error());
  });

  auto* command = app.add_subcommand("export", "Write a run's committed state as safetensors");
  auto export_flags = std::make_shared<ExportFlags>();
  command->add_option("run", export_flags->run, "The run's folder")->required();
  command->add_option("--to", export_flags->to, "Folder to write into")->required();
  command->add_option("--what", export_flags->what, "state: master weights and moments, fp32")
      ->check(CLI::IsMember({"state"}));
  command->callback([export_flags, &exit_code] {
    if (const auto status = export_run(*export_flags); !status) exit_code = report_error(status.error());
  });
}

}  // namespace strata::cli
