#include "cli/thread_waiting.hpp"

#include <cstdlib>

#include <unistd.h>

namespace strata::cli {

void wait_passively(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  if (::setenv("OMP_WAIT_POLICY", "passive", 0) != 0) return;
  // When this fails the program goes on as it is: slower on a loaded machine, no different in its results.
  ::execv("/proc/self/exe", argv);
}

}  // namespace strata::cli
