// DeepSpeed's launchers hand a configuration over as url-safe base64 of its JSON.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace strata::config {

/// Both alphabets, padded or not. Nothing for other characters or an impossible length.
[[nodiscard]] std::optional<std::string> decode_base64(std::string_view text);

}  // namespace strata::config
