#include "base/result.hpp"

#include <cstring>

namespace strata {

std::string to_string(const Error& error) {
  std::string text = error.message;
  if (error.os_errno != 0) {
    text += ": ";
    text += std::strerror(error.os_errno);
  }
  if (!error.hint.empty()) {
    text += "; ";
    text += error.hint;
  }
  return text;
}

}  // namespace strata
