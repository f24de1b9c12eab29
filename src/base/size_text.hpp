// Sizes as people write them: "512MiB", "2.5 GB", "4096".
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "strata/types.hpp"

namespace strata {

/// Parses integer bytes, or a number with KiB MiB GiB TiB (binary) or KB MB GB TB (decimal).
[[nodiscard]] Result<Bytes> parse_size(std::string_view text);

/// Three significant digits in binary units: "1.50 GiB".
[[nodiscard]] std::string format_size(Bytes bytes);

}  // namespace strata
