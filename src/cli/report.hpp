// What every command does with an error: one line on stderr, and the exit code that the formats promise.
#pragma once

#include <cstdio>
#include <string_view>

#include "base/result.hpp"

namespace strata::cli {

inline int report_error(const Error& error) {
  std::fprintf(stderr, "strata: %s\n", to_string(error).c_str());
  return exit_code_of(error.code);
}

inline void report_line(std::string_view line) {
  std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
}

}  // namespace strata::cli
