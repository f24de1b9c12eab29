// What Hugging Face puts in the place of "auto".
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "config/key_row.hpp"
#include "config/load.hpp"

namespace strata::config {

struct Filled {
  nlohmann::json value;  ///< null: nothing to fill in, the default counts
  std::string note;
};

[[nodiscard]] Filled auto_value(const LoadOptions& options, AutoFill what);

}  // namespace strata::config
