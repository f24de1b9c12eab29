#include "tiers/store_files.hpp"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.hpp"
#include "tiers/store_layout.hpp"

namespace strata::tiers {
namespace {

namespace fs = std::filesystem;

Status sync_folder(const fs::path& folder) {
  const Fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems can't sync a folder and say EINVAL; their names need no sync.
  if (!fd || (::fsync(fd.get()) != 0 && errno != EINVAL)) {
    return fail(ErrorCode::kIo, fmt::format("cannot make the names in '{}' durable", folder.string()),
                "check its file system", errno);
  }
  return {};
}

Status check_folder(const fs::path& path) {
  std::error_code failed;
  if (fs::is_directory(path, failed)) return {};
  return fail(ErrorCode::kUsage, fmt::format("'{}' is no folder", path.string()), "make it, or give another path",
              failed.value() != 0 ? failed.value() : ENOTDIR);
}

}  // namespace

fs::path data_file(const fs::path& path, const std::string& run_id) {
  return path / ("strata-" + run_id) / "rank0.data";
}

Status check_options(const StoreOptions& options) {
  // It becomes part of a path.
  const bool is_hex =
      options.run_id.size() == 32 && options.run_id.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!is_hex) {
    return fail(ErrorCode::kUsage, fmt::format("run id '{}' is not 32 hex digits", options.run_id), "repair run.json");
  }
  if (options.paths.empty() || options.paths.size() > kPathsMax) {
    return fail(ErrorCode::kUsage, fmt::format("{} paths for the state store", options.paths.size()),
                fmt::format("give 1 to {}", kPathsMax));
  }
  if (options.slots == 0 || options.slots > kSlotsMax) {
    return fail(ErrorCode::kUsage, fmt::format("{} slots per object", options.slots),
                fmt::format("allowed are 1 to {}: fewer pinned checkpoints need fewer", kSlotsMax));
  }
  return {};
}

Result<NewFiles> NewFiles::create(const StoreOptions& options, const std::vector<Bytes>& sizes) {
  NewFiles files;
  // All paths first: a wrong one should not cost the time to fill the others.
  for (const fs::path& path : options.paths) STRATA_TRY(check_folder(path));
  for (std::size_t i = 0; i < options.paths.size(); ++i) STRATA_TRY(files.add(options.paths[i], options, sizes[i]));
  return files;
}

Status NewFiles::add(const fs::path& path, const StoreOptions& options, Bytes size) {
  const fs::path name = data_file(path, options.run_id);
  std::error_code failed;
  if (fs::create_directory(name.parent_path(), failed)) made_.push_back(name.parent_path());
  if (failed) {
    return fail(ErrorCode::kIo, fmt::format("cannot make the folder '{}'", name.parent_path().string()),
                "give a path that you may write to", failed.value());
  }
  STRATA_ASSIGN(io::File file,
                io::open_file(name, {.access = io::Access::kReadWrite, .creation = io::Creation::kMustNotExist}));
  made_.push_back(name);
  STRATA_TRY(io::lock_exclusively(file, options.lock_patience_s));
  STRATA_TRY(io::preallocate(file, size));
  files_.push_back(std::move(file));
  return {};
}

NewFiles::NewFiles(NewFiles&& other) noexcept
    : files_(std::move(other.files_)), made_(std::exchange(other.made_, {})) {}

NewFiles::~NewFiles() {
  for (auto made = made_.rbegin(); made != made_.rend(); ++made) {
    std::error_code ignored;  // the error that led here is the one to report
    fs::remove(*made, ignored);
  }
}

Status NewFiles::keep() {
  for (const fs::path& made : made_) STRATA_TRY(sync_folder(made.parent_path()));
  made_.clear();
  return {};
}

Result<std::vector<io::File>> open_files(const StoreOptions& options) {
  std::vector<io::File> files;
  for (const fs::path& path : options.paths) {
    const fs::path name = data_file(path, options.run_id);
    std::error_code failed;
    if (!fs::exists(name, failed)) {
      return fail(ErrorCode::kStore, fmt::format("the run's data file '{}' is missing", name.string()),
                  "mount or restore that path: every path of the run is needed", failed.value());
    }
    STRATA_ASSIGN(io::File file,
                  io::open_file(name, {.access = io::Access::kReadWrite, .creation = io::Creation::kMustExist}));
    STRATA_TRY(io::lock_exclusively(file, options.lock_patience_s));
    files.push_back(std::move(file));
  }
  return files;
}

Result<Bytes> size_of(const io::File& file) {
  struct stat info {};
  if (::fstat(file.fd.get(), &info) != 0) {
    return fail(ErrorCode::kIo, fmt::format("cannot examine '{}'", file.path.string()), {}, errno);
  }
  return Bytes(static_cast<std::uint64_t>(info.st_size));
}

Status remove_store(const StoreOptions& options) {
  STRATA_TRY(check_options(options));
  for (const fs::path& path : options.paths) {
    const fs::path name = data_file(path, options.run_id);
    std::error_code failed;
    if (!fs::exists(name, failed) && !failed) continue;
    // A live process keeps its lock; a file that is only being waited for is not worth waiting for here.
    STRATA_ASSIGN(const io::File file, io::open_file(name, {.access = io::Access::kReadWrite,
                                                            .creation = io::Creation::kMustExist,
                                                            .caching = io::Caching::kBuffered}));
    STRATA_TRY(io::lock_exclusively(file, 0));
    if (!fs::remove(name, failed) || failed) {
      return fail(ErrorCode::kIo, fmt::format("cannot remove '{}'", name.string()), "remove it by hand",
                  failed.value());
    }
    fs::remove(name.parent_path(), failed);  // stays while something else lies in it
  }
  return {};
}

}  // namespace strata::tiers
