#include "engine/run_folder.hpp"

#include <cerrno>
#include <ctime>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/fd.hpp"
#include "base/version.hpp"
#include "tiers/store_files.hpp"

namespace strata::engine {
namespace {

using nlohmann::json;

constexpr const char* kSchema = "strata.run/1";

std::filesystem::path record_path(const std::filesystem::path& folder) { return folder / "run.json"; }

json to_json(const zero::ParameterInfo& parameter) {
  return {{"name", parameter.name},
          {"shape", parameter.shape},
          {"dtype", std::string(name_of(parameter.dtype))},
          {"trainable", parameter.trainable == zero::Trainable::kYes},
          {"group", parameter.group}};
}

zero::ParameterInfo parameter_from(const json& value) {
  zero::ParameterInfo parameter;
  parameter.name = value.at("name").get<std::string>();
  parameter.shape = value.at("shape").get<std::vector<std::int64_t>>();
  const auto dtype = value.at("dtype").get<std::string>();
  parameter.dtype = dtype == "bf16" ? DType::kBFloat16 : dtype == "fp16" ? DType::kFloat16 : DType::kFloat32;
  parameter.trainable = value.at("trainable").get<bool>() ? zero::Trainable::kYes : zero::Trainable::kNo;
  parameter.group = value.at("group").get<std::uint32_t>();
  return parameter;
}

RunRecord record_from(const json& document) {
  RunRecord record;
  record.run_id = document.at("run_id").get<std::string>();
  record.created_unix_s = document.at("created_unix_s").get<std::uint64_t>();
  record.world_size = document.at("world_size").get<std::uint32_t>();
  record.slots = document.at("slots").get<std::uint32_t>();
  record.scratch = Bytes(document.at("scratch_bytes").get<std::uint64_t>());
  record.largest_scratch = Bytes(document.at("largest_scratch_bytes").get<std::uint64_t>());
  record.sub_group_elements = document.at("sub_group_elements").get<std::uint64_t>();
  record.data_files_made = document.at("data_files_made").get<bool>();
  for (const auto& path : document.at("paths")) record.paths.emplace_back(path.get<std::string>());
  for (const auto& pair : document.at("settings")) {
    record.settings.emplace_back(pair.at(0).get<std::string>(), pair.at(1).get<std::string>());
  }
  for (const auto& value : document.at("units")) {
    zero::UnitInfo unit;
    unit.name = value.at("name").get<std::string>();
    for (const auto& parameter : value.at("parameters")) unit.parameters.push_back(parameter_from(parameter));
    record.units.push_back(std::move(unit));
  }
  return record;
}

Status sync_path(const std::filesystem::path& path, int flags) {
  const Fd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) {
    return fail(ErrorCode::kIo, fmt::format("cannot sync '{}'", path.string()), "check the file system", errno);
  }
  return {};
}

}  // namespace

Result<std::string> make_run_id() {
  std::uint64_t words[2];
  if (::getrandom(words, sizeof words, 0) != static_cast<ssize_t>(sizeof words)) {
    return fail(ErrorCode::kInternal, "the kernel gave no random numbers for a run id", "try again", errno);
  }
  return fmt::format("{:016x}{:016x}", words[0], words[1]);
}

bool has_run(const std::filesystem::path& folder) {
  std::error_code ignored;
  return std::filesystem::exists(record_path(folder), ignored);
}

Bytes data_bytes(const RunRecord& record) {
  Bytes total;
  for (const auto& path : record.paths) {
    struct stat status {};
    if (::stat(tiers::data_file(path, record.run_id).c_str(), &status) != 0) continue;
    total += Bytes(static_cast<std::uint64_t>(status.st_blocks) * 512);
  }
  return total;
}

void remove_run(const std::filesystem::path& folder) {
  std::error_code ignored;
  std::filesystem::remove(record_path(folder), ignored);
}

Result<Fd> lock_run(const std::filesystem::path& folder, RunUse use) {
  // The folder itself is what is locked: there is no lock file that could stay behind.
  Fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) {
    return fail(ErrorCode::kUsage, fmt::format("cannot open the run folder '{}'", folder.string()),
                "give the --out folder of a run", errno);
  }
  if (::flock(fd.get(), (use == RunUse::kTrain ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return fail(ErrorCode::kStore, fmt::format("the run in '{}' is in use by another process", folder.string()),
                  "wait until that process ends, or stop it");
    }
    return fail(ErrorCode::kIo, fmt::format("cannot lock the run folder '{}'", folder.string()),
                "put the run on a file system with locks", errno);
  }
  return fd;
}

Result<std::vector<std::filesystem::path>> make_folders(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> missing;
  std::error_code failed;
  for (auto path = folder; !path.empty() && !std::filesystem::exists(path, failed); path = path.parent_path()) {
    missing.insert(missing.begin(), path);
    if (path == path.parent_path()) break;
  }
  std::filesystem::create_directories(folder, failed);
  if (failed || !std::filesystem::is_directory(folder, failed)) {
    remove_folders(missing);
    return fail(ErrorCode::kUsage, fmt::format("cannot make the run folder '{}'", folder.string()),
                "give an --out that can be made and written to", failed ? failed.value() : ENOTDIR);
  }
  return missing;
}

void remove_folders(const std::vector<std::filesystem::path>& made) {
  std::error_code ignored;  // a folder that is not empty stays
  for (auto folder = made.rbegin(); folder != made.rend(); ++folder) std::filesystem::remove(*folder, ignored);
}

Status write_file_atomically(const std::filesystem::path& file, const std::string& text) {
  const std::filesystem::path beside = file.string() + ".new";
  {
    std::ofstream out(beside, std::ios::binary | std::ios::trunc);
    out << text;
    out.flush();
    if (!out) {
      const int reason = errno;
      std::error_code ignored;
      std::filesystem::remove(beside, ignored);
      return fail(ErrorCode::kIo, fmt::format("cannot write '{}'", beside.string()),
                  "check that the folder is writable and the disk has room", reason);
    }
  }
  STRATA_TRY(sync_path(beside, O_RDONLY));
  std::error_code failed;
  std::filesystem::rename(beside, file, failed);
  if (failed) {
    return fail(ErrorCode::kIo, fmt::format("cannot rename '{}' to '{}'", beside.string(), file.string()), {},
                failed.value());
  }
  return sync_path(file.parent_path(), O_RDONLY | O_DIRECTORY);
}

Status write_run(const std::filesystem::path& folder, const RunRecord& record) {
  json units = json::array();
  for (const auto& unit : record.units) {
    json parameters = json::array();
    for (const auto& parameter : unit.parameters) parameters.push_back(to_json(parameter));
    units.push_back({{"name", unit.name}, {"parameters", std::move(parameters)}});
  }
  json paths = json::array();
  for (const auto& path : record.paths) paths.push_back(path.string());
  json settings = json::array();
  for (const auto& [key, value] : record.settings) settings.push_back({key, value});
  const json document = {{"schema", kSchema},
                         {"strata_version", kVersion},
                         {"commit", kCommit},
                         {"run_id", record.run_id},
                         {"created_unix_s", record.created_unix_s},
                         {"world_size", record.world_size},
                         {"slots", record.slots},
                         {"scratch_bytes", record.scratch.value},
                         {"largest_scratch_bytes", record.largest_scratch.value},
                         {"sub_group_elements", record.sub_group_elements},
                         {"data_files_made", record.data_files_made},
                         {"paths", std::move(paths)},
                         {"settings", std::move(settings)},
                         {"units", std::move(units)}};
  return write_file_atomically(record_path(folder), document.dump(1));
}

Result<RunRecord> read_run(const std::filesystem::path& folder) {
  const auto path = record_path(folder);
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    return fail(ErrorCode::kStore, fmt::format("no run in '{}' (no run.json)", folder.string()),
                "give the --out folder of a run");
  }
  std::ostringstream text;
  text << in.rdbuf();
  try {
    const json document = json::parse(text.str());
    const auto schema = document.at("schema").get<std::string>();
    if (schema != kSchema) {
      return fail(ErrorCode::kStore, fmt::format("'{}' is of version '{}', this program reads '{}'", path.string(),
                                                 schema, kSchema),
                  "use the version of strata that wrote the run");
    }
    return record_from(document);
  } catch (const json::exception& error) {
    // The library's own tag says nothing to a person.
    std::string what = error.what();
    if (const auto tag = what.find("] "); tag != std::string::npos) what.erase(0, tag + 2);
    return fail(ErrorCode::kStore, fmt::format("'{}' is damaged: {}", path.string(), what),
                "restore the file, or start a new run");
  }
}

}  // namespace strata::engine
