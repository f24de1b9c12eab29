// Files as the engine wants them: O_DIRECT where the file system has it, preallocated, locked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "strata/types.hpp"

namespace strata::io {

enum class Access : std::uint8_t { kRead, kReadWrite };
enum class Creation : std::uint8_t { kMustExist, kMustNotExist };
enum class Caching : std::uint8_t { kDirect, kBuffered };

struct FileOptions {
  Access access = Access::kReadWrite;
  Creation creation = Creation::kMustExist;
  Caching caching = Caching::kDirect;  ///< wished for; see File::caching for what was had
};

struct File {
  Fd fd;
  std::filesystem::path path;
  Caching caching = Caching::kDirect;  ///< kBuffered where the file system refuses O_DIRECT
  std::string file_system;             ///< "ext4", "tmpfs", ...
};

/// Opens close-on-exec. Falls back to buffered I/O where O_DIRECT is refused (the caller warns, with `file_system`).
[[nodiscard]] Result<File> open_file(const std::filesystem::path& path, const FileOptions& options);

/// Gives the file `size` bytes of allocated space. Checks the free space first: ENOSPC names path, needed and free
/// bytes.
[[nodiscard]] Status preallocate(const File& file, Bytes size);

/// Locks the open file description (flock), so that the lock lives as long as queued writes do. Waits up to
/// `patience_s` for writes that outlive a killed process; then kStore, "in use by another process".
[[nodiscard]] Status lock_exclusively(const File& file, double patience_s);

/// Bytes that an unprivileged process may still write to the file system of `path`.
[[nodiscard]] Result<Bytes> free_space(const std::filesystem::path& path);

}  // namespace strata::io
