// The engine on pread, pwrite and fdatasync, for where io_uring is not allowed.
#pragma once

#include <memory>

#include "base/result.hpp"
#include "io/engine.hpp"
#include "io/engine_parts.hpp"

namespace strata::io {

[[nodiscard]] Result<std::unique_ptr<Engine>> open_threads_engine(const EngineOptions& options,
                                                                  ResultFilter filter = {});

}  // namespace strata::io
