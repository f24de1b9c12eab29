// A run's folder (`--out`): what was asked for, where the bytes are, and who has it open. No torch.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "strata/types.hpp"
#include "zero/segment_table.hpp"

namespace strata::engine {

/// RUN/run.json, schema strata.run/1: written before the data files, again when they are complete, and when a resume
/// changes settings.
struct RunRecord {
  std::string run_id;  ///< 32 hex digits
  std::uint64_t created_unix_s = 0;
  std::uint32_t world_size = 1;
  std::uint32_t slots = 2;
  Bytes scratch;
  Bytes largest_scratch;
  std::uint64_t sub_group_elements = 0;
  bool data_files_made = false;  ///< false: the process ended while it was making them, and they hold nothing
  std::vector<std::filesystem::path> paths;
  std::vector<zero::UnitInfo> units;
  /// The command's settings as flat text pairs, in order; what `--resume` compares.
  std::vector<std::pair<std::string, std::string>> settings;
};

/// Fresh and random.
[[nodiscard]] Result<std::string> make_run_id();

/// Atomic: written beside, synced, renamed, the folder synced.
[[nodiscard]] Status write_run(const std::filesystem::path& folder, const RunRecord& record);
/// kStore when there is no run, or it is of an unknown version or damaged.
[[nodiscard]] Result<RunRecord> read_run(const std::filesystem::path& folder);
[[nodiscard]] bool has_run(const std::filesystem::path& folder);
/// Bytes that the run's data files take on their file systems now; missing ones count as none.
[[nodiscard]] Bytes data_bytes(const RunRecord& record);
/// Removes run.json; nothing else.
void remove_run(const std::filesystem::path& folder);

enum class RunUse : std::uint8_t { kTrain, kRead };
/// Holds the folder for as long as the descriptor is open: one process trains, or several read. kStore at once when
/// another process holds it otherwise. The folder must exist.
[[nodiscard]] Result<Fd> lock_run(const std::filesystem::path& folder, RunUse use);

/// Makes the folder and those above it that are missing; returns what it made, outermost first. kUsage.
[[nodiscard]] Result<std::vector<std::filesystem::path>> make_folders(const std::filesystem::path& folder);
/// Undoes it as far as the folders are empty.
void remove_folders(const std::vector<std::filesystem::path>& made);

/// Writes `text` to `file` so that a crash leaves the old content or the new.
[[nodiscard]] Status write_file_atomically(const std::filesystem::path& file, const std::string& text);

}  // namespace strata::engine
