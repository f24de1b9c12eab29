// What every command does with an error: one line on stderr for each thing that is wrong, and the exit code that the
// formats promise.
#pragma once

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace strata::cli {

inline int report_error(const Error& error) {
  // A config file may have several things wrong, one on each line.
  const std::string text = to_string(error);
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::fprintf(stderr, "strata: %.*s\n", static_cast<int>(end - at), text.c_str() + at);
    at = end + 1;
  }
  return exit_code_of(error.code);
}

inline void report_line(std::string_view line) {
  std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
}

}  // namespace strata::cli
