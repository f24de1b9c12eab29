// What one result of the kernel means for the block that it belongs to. Pure, shared by every backend.
#pragma once

#include <cerrno>
#include <cstdint>

#include "io/request.hpp"

namespace strata::io {

/// EINTR, EAGAIN and results that bring no whole 4 KiB are tried again this often in a row before they are an error.
inline constexpr std::uint32_t kMaxRetries = 100;

enum class Progress : std::uint8_t {
  kWhole,   ///< the block is done
  kResume,  ///< `advance` bytes are done, the rest is to be asked for again
  kRetry,   ///< nothing is done, the same is to be asked for again
  kFail     ///< `os_errno` says why; 0: the file ended
};

struct Judgement {
  Progress progress = Progress::kFail;
  std::uint64_t advance = 0;  ///< bytes that count as transferred; a multiple of 4 KiB with kResume
  int os_errno = 0;           ///< of kFail and kRetry; 0 with kRetry: a short transfer within one 4 KiB
};

/// `result` is what the call returned: a count of bytes, or -errno. `length` is what was asked for.
[[nodiscard]] constexpr Judgement judge(Op op, std::int64_t result, std::uint64_t length) {
  if (result == -EINTR || result == -EAGAIN)
    return {.progress = Progress::kRetry, .os_errno = static_cast<int>(-result)};
  if (result < 0) return {.progress = Progress::kFail, .os_errno = static_cast<int>(-result)};
  const auto moved = static_cast<std::uint64_t>(result);
  const std::uint64_t expected = op == Op::kFlush ? 0 : length;
  if (moved == expected) return {.progress = Progress::kWhole, .advance = expected};
  if (moved > expected) return {.progress = Progress::kFail, .os_errno = EOVERFLOW};
  if (moved == 0) return {.progress = Progress::kFail};
  // O_DIRECT can go on from an aligned byte only; what was moved beyond it is moved again.
  const std::uint64_t advance = round_down(moved, kBlockAlignment.value);
  if (advance == 0) return {.progress = Progress::kRetry};
  return {.progress = Progress::kResume, .advance = advance};
}

}  // namespace strata::io
