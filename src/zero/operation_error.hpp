// How an operating error crosses LibTorch: autograd's hooks have no other way out than an exception. The engine catches
// it where the call into LibTorch returns and makes it a Status again.
#pragma once

#include <stdexcept>
#include <utility>

#include "base/result.hpp"

namespace strata::zero {

class OperationError : public std::runtime_error {
 public:
  explicit OperationError(Error error) : std::runtime_error(to_string(error)), error_(std::move(error)) {}
  [[nodiscard]] const Error& error() const { return error_; }

 private:
  Error error_;
};

/// The value, or throws. Only between an autograd entry and the engine.
template <class T>
T value_or_throw(Result<T> result) {
  if (!result) throw OperationError(std::move(result).error());
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

}  // namespace strata::zero
