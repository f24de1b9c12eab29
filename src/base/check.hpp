// Checks for programmer errors. Always on: a corrupt state must never be trained on.
#pragma once

#include <string_view>

namespace strata {

/// Prints the failed condition with its place and aborts.
[[noreturn]] void check_failed(const char* condition, const char* file, int line, std::string_view message);

}  // namespace strata

#define STRATA_CHECK(condition, message)                                              \
  do {                                                                                \
    if (!(condition)) [[unlikely]]                                                    \
      ::strata::check_failed(#condition, __FILE__, __LINE__, (message));              \
  } while (false)
