// The data files of a store on their paths: made, found, locked, removed.
#pragma once

#include <filesystem>
#include <vector>

#include "base/result.hpp"
#include "io/file.hpp"
#include "strata/types.hpp"
#include "tiers/state_store.hpp"

namespace strata::tiers {

/// PATH/strata-<run_id>/rank0.data
[[nodiscard]] std::filesystem::path data_file(const std::filesystem::path& path, const std::string& run_id);

/// kUsage for options that no store can have.
[[nodiscard]] Status check_options(const StoreOptions& options);

/// New data files, locked and preallocated. The destructor removes what was made here, unless keep() came first.
class NewFiles {
 public:
  [[nodiscard]] static Result<NewFiles> create(const StoreOptions& options, const std::vector<Bytes>& sizes);
  NewFiles(NewFiles&& other) noexcept;
  NewFiles& operator=(NewFiles&&) = delete;
  ~NewFiles();

  [[nodiscard]] std::vector<io::File> take_files() { return std::move(files_); }
  /// Makes the names durable.
  [[nodiscard]] Status keep();

 private:
  NewFiles() = default;
  [[nodiscard]] Status add(const std::filesystem::path& path, const StoreOptions& options, Bytes size);

  std::vector<io::File> files_;
  std::vector<std::filesystem::path> made_;  ///< files and folders, in the order of their making
};

/// The data files of a run, by path, locked. kStore names the first that is missing or in use.
[[nodiscard]] Result<std::vector<io::File>> open_files(const StoreOptions& options);

[[nodiscard]] Result<Bytes> size_of(const io::File& file);

}  // namespace strata::tiers
