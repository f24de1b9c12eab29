#include "io/io_error.hpp"

#include <cerrno>

#include <fmt/format.h>
#include <sys/stat.h>

#include "base/size_text.hpp"

namespace strata::io {
namespace {

std::string_view verb_of(Op op) {
  switch (op) {
    case Op::kRead: return "read";
    case Op::kWrite: return "write";
    case Op::kFlush: return "flush";
  }
  return "use";
}

std::string size_text(const File& file) {
  struct stat status {};
  if (::fstat(file.fd.get(), &status) != 0) return "unknown size";
  return fmt::format("{} bytes", status.st_size);
}

std::string free_text(const File& file) {
  const auto free = free_space(file.path);
  return free ? format_size(*free) : "an unknown amount";
}

}  // namespace

Error describe_failure(const File& file, const FailedBlock& block) {
  Error error{.code = ErrorCode::kIo, .os_errno = block.os_errno, .message = {}, .hint = {}};
  if (block.op == Op::kFlush) {
    error.message = fmt::format("cannot flush {}", file.path.string());
    error.hint = "what was written since the last flush may be lost; check the drive and the kernel's log";
    return error;
  }
  error.message = fmt::format("cannot {} {} bytes at offset {} of {}", verb_of(block.op), block.length.value,
                              block.offset.value, file.path.string());
  switch (block.os_errno) {
    case 0:
      error.message += fmt::format(": the file ends before them ({})", size_text(file));
      error.hint = "the file was cut short or belongs to another run";
      break;
    case ENOSPC:
    case EDQUOT:
      error.message += fmt::format(" ({} free)", free_text(file));
      error.hint = "free some space or give another path";
      break;
    case EIO: error.hint = "check the drive and the kernel's log"; break;
    case EINVAL:
      error.hint = "the file system may want another alignment than 4 KiB for direct I/O; give another path";
      break;
    default: break;
  }
  return error;
}

std::string describe_slow(const File& file, const Request& request, double waited_s) {
  const std::string where = request.op == Op::kFlush
                                ? fmt::format("flush of {}", file.path.string())
                                : fmt::format("{} of {} at offset {} of {}", verb_of(request.op),
                                              format_size(request.length), request.offset.value, file.path.string());
  return fmt::format("slow disk: {} has been waiting for {:.1f} s ({} blocks with the kernel)", where, waited_s,
                     request.blocks_in_flight);
}

}  // namespace strata::io
