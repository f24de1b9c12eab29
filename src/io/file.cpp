#include "io/file.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#include "base/size_text.hpp"

namespace strata::io {
namespace {

constexpr std::uint64_t kZeros = 1u << 20;
constexpr auto kLockPause = std::chrono::milliseconds(10);

struct Magic {
  std::uint64_t number;
  const char* name;
};

constexpr Magic kFileSystems[] = {
    {EXT4_SUPER_MAGIC, "ext4"},
    {0x58465342, "xfs"},
    {BTRFS_SUPER_MAGIC, "btrfs"},
    {TMPFS_MAGIC, "tmpfs"},
    {RAMFS_MAGIC, "ramfs"},
    {OVERLAYFS_SUPER_MAGIC, "overlayfs"},
    {0x65735546, "fuse"},
    {NFS_SUPER_MAGIC, "nfs"},
    {F2FS_SUPER_MAGIC, "f2fs"},
    {0x2FC12FC1, "zfs"},
    {V9FS_MAGIC, "9p"},
    {0x01021997, "9p"},
    {ECRYPTFS_SUPER_MAGIC, "ecryptfs"},
    {0xFF534D42, "cifs"},
    {0xFE534D42, "smb2"},
};

std::string file_system_of(int fd) {
  struct statfs status {};
  if (::fstatfs(fd, &status) != 0) return "unknown";
  const auto magic = static_cast<std::uint64_t>(status.f_type) & 0xFFFFFFFFu;
  for (const Magic& known : kFileSystems) {
    if (known.number == magic) return known.name;
  }
  return fmt::format("{:#x}", magic);
}

tl::unexpected<Error> cannot_open(const std::filesystem::path& path, int os_errno) {
  const std::string message = fmt::format("cannot open {}", path.string());
  switch (os_errno) {
    case ENOENT: return fail(ErrorCode::kUsage, message, "check the path", os_errno);
    case EACCES:
    case EPERM:
    case EROFS: return fail(ErrorCode::kUsage, message, "give a path that this user may write", os_errno);
    case ENOTDIR:
    case EISDIR: return fail(ErrorCode::kUsage, message, "give a directory for data files", os_errno);
    case EEXIST: return fail(ErrorCode::kUsage, message, "it belongs to another run; give another path", os_errno);
    case EMFILE: return fail(ErrorCode::kIo, message, "raise the limit of open files (ulimit -n)", os_errno);
    default: return fail(ErrorCode::kIo, message, {}, os_errno);
  }
}

/// A file system that counts no blocks (ramfs, tmpfs with size=0) has no limit of its own.
constexpr Bytes kUncounted(1ull << 60);

Bytes free_bytes_of(const struct statvfs& status) {
  if (status.f_blocks == 0) return kUncounted;
  return Bytes(std::uint64_t{status.f_bavail} * status.f_frsize);
}

/// For file systems without fallocate. `from` and `to` are multiples of 4 KiB, but for the end of the file.
Status fill_with_zeros(const File& file, std::uint64_t from, std::uint64_t to) {
  const std::unique_ptr<void, decltype(&std::free)> zeros(std::aligned_alloc(kBlockAlignment.value, kZeros),
                                                          &std::free);
  if (!zeros) return fail(ErrorCode::kIo, "no memory to fill a file with zeros", {}, ENOMEM);
  std::fill_n(static_cast<std::byte*>(zeros.get()), kZeros, std::byte{0});
  for (std::uint64_t at = round_down(from, kBlockAlignment.value); at < to;) {
    const std::uint64_t length = std::min(kZeros, round_up(to - at, kBlockAlignment.value));
    const ssize_t written = ::pwrite(file.fd.get(), zeros.get(), length, static_cast<off_t>(at));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return fail(ErrorCode::kIo, fmt::format("cannot allocate {}", file.path.string()), {}, errno);
    at += static_cast<std::uint64_t>(written);
  }
  return {};
}

tl::unexpected<Error> no_space(const File& file, Bytes needed, Bytes free) {
  return fail(ErrorCode::kDoesNotFit,
              fmt::format("{} needs {} more on its file system, which has {} free", file.path.string(),
                          format_size(needed), format_size(free)),
              "free that much, or give another path", ENOSPC);
}

}  // namespace

Result<File> open_file(const std::filesystem::path& path, const FileOptions& options) {
  int flags = O_CLOEXEC | (options.access == Access::kRead ? O_RDONLY : O_RDWR);
  if (options.creation == Creation::kMustNotExist) flags |= O_CREAT | O_EXCL;
  File file{.fd = {}, .path = path, .caching = Caching::kBuffered, .file_system = {}};
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags, 0644);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return cannot_open(path, errno);
  file.fd = Fd(fd);
  struct stat status {};
  if (::fstat(fd, &status) != 0) return cannot_open(path, errno);
  if (S_ISDIR(status.st_mode)) return cannot_open(path, EISDIR);
  file.file_system = file_system_of(fd);
  // Set after the open: an open that creates and then finds O_DIRECT refused would leave the new file behind.
  if (options.caching == Caching::kDirect) {
    const int granted = ::fcntl(fd, F_GETFL);
    if (granted < 0) return cannot_open(path, errno);
    if (::fcntl(fd, F_SETFL, granted | O_DIRECT) == 0) {
      file.caching = Caching::kDirect;
    } else if (errno != EINVAL) {
      return cannot_open(path, errno);
    }
  }
  return file;
}

Status preallocate(const File& file, Bytes size) {
  struct stat status {};
  struct statvfs system {};
  if (::fstat(file.fd.get(), &status) != 0 || ::fstatvfs(file.fd.get(), &system) != 0) {
    return fail(ErrorCode::kIo, fmt::format("cannot read the size of {}", file.path.string()), {}, errno);
  }
  const auto old_size = static_cast<std::uint64_t>(status.st_size);
  const auto allocated = static_cast<std::uint64_t>(status.st_blocks) * 512;
  const Bytes free = free_bytes_of(system);
  const Bytes needed(size.value - std::min(size.value, allocated));
  if (needed > free) return no_space(file, needed, free);
  if (size.value == 0) return {};
  int result = 0;
  do {
    result = ::fallocate(file.fd.get(), 0, 0, static_cast<off_t>(size.value));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return {};
  const int reason = errno;
  if (reason == EOPNOTSUPP || reason == ENOSYS) {
    STRATA_TRY(fill_with_zeros(file, old_size, size.value));
    if (::ftruncate(file.fd.get(), static_cast<off_t>(std::max(size.value, old_size))) == 0) return {};
    return fail(ErrorCode::kIo, fmt::format("cannot allocate {}", file.path.string()), {}, errno);
  }
  // What was allocated before the failure is given back.
  Error error = reason == ENOSPC || reason == EDQUOT
                    ? no_space(file, needed, free).value()
                    : Error{.code = ErrorCode::kIo,
                            .os_errno = reason,
                            .message = fmt::format("cannot allocate {} for {}", format_size(size), file.path.string()),
                            .hint = {}};
  if (::ftruncate(file.fd.get(), static_cast<off_t>(old_size)) != 0) error.hint += " (the file keeps what it got)";
  return tl::unexpected(std::move(error));
}

Status lock_exclusively(const File& file, double patience_s) {
  using Clock = std::chrono::steady_clock;
  const auto until =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(patience_s));
  for (;;) {
    if (::flock(file.fd.get(), LOCK_EX | LOCK_NB) == 0) return {};
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) {
      return fail(ErrorCode::kIo, fmt::format("cannot lock {}", file.path.string()), {}, errno);
    }
    if (Clock::now() >= until) {
      return fail(ErrorCode::kStore, fmt::format("{} is in use by another process", file.path.string()),
                  "wait for that run to end, or stop it");
    }
    std::this_thread::sleep_for(kLockPause);
  }
}

Result<Bytes> free_space(const std::filesystem::path& path) {
  struct statvfs status {};
  if (::statvfs(path.c_str(), &status) != 0) {
    return fail(ErrorCode::kUsage, fmt::format("cannot read the free space of {}", path.string()), "check the path",
                errno);
  }
  return free_bytes_of(status);
}

}  // namespace strata::io
