// The engine on io_uring.
#pragma once

#include <memory>

#include "base/result.hpp"
#include "io/engine.hpp"
#include "io/engine_parts.hpp"

namespace strata::io {

/// kIo where the kernel refuses io_uring.
[[nodiscard]] Result<std::unique_ptr<Engine>> open_uring_engine(const EngineOptions& options, ResultFilter filter = {});

}  // namespace strata::io
