#include "base/check.hpp"

#include <cstdio>
#include <cstdlib>

namespace strata {

void check_failed(const char* condition, const char* file, int line, std::string_view message) {
  std::fprintf(stderr, "strata: internal error: %.*s (%s) at %s:%d\n", static_cast<int>(message.size()),
               message.data(), condition, file, line);
  std::abort();
}

}  // namespace strata
