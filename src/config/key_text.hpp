// What a row says in words: for errors, for docs/config.md.
#pragma once

#include <string>

#include "config/key_row.hpp"

namespace strata::config {

/// "true or false", "an integer >= 0", "one of none, cpu, nvme".
[[nodiscard]] std::string allowed_text(const KeyRow& row);
/// "obeyed", "only `false`", "accepted without effect", ...
[[nodiscard]] std::string treatment_text(const KeyRow& row);

/// Every path, one per line.
[[nodiscard]] std::string keys_list();
/// docs/config.md, whole.
[[nodiscard]] std::string keys_markdown();

}  // namespace strata::config
