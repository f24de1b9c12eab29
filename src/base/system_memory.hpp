// How much memory this process may still take.
#pragma once

#include "base/result.hpp"
#include "strata/types.hpp"

namespace strata {

/// min(MemAvailable, what the cgroup's limit leaves); cgroup v2 and v1.
[[nodiscard]] Result<Bytes> available_memory();

/// Anonymous, shared and huge pages of this process: what "peak resident memory" means in the design.
[[nodiscard]] Result<Bytes> resident_memory();

}  // namespace strata
