// Texts of failed and of slow requests.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.hpp"
#include "io/file.hpp"
#include "io/request.hpp"

namespace strata::io {

/// The part of a request that failed. `os_errno` 0: the file ended before it.
struct FailedBlock {
  Op op = Op::kRead;
  Offset offset;
  Bytes length;
  int os_errno = 0;
};

/// Names path, offset, length, and free space for ENOSPC.
[[nodiscard]] Error describe_failure(const File& file, const FailedBlock& block);

/// One line: "read of 1.00 MiB at 4096 of /path has been waiting for 31.0 s (2 blocks with the kernel)".
[[nodiscard]] std::string describe_slow(const File& file, const Request& request, double waited_s);

}  // namespace strata::io
