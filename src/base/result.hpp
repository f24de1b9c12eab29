// Operating errors as values. Programmer errors abort through base/check.hpp instead.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include <tl/expected.hpp>

namespace strata {

enum class ErrorCode : std::uint8_t {
  kInternal,    ///< a broken promise of ours that we noticed in time
  kUsage,       ///< wrong flag, path or argument
  kConfig,      ///< wrong configuration file or value
  kDoesNotFit,  ///< a hard budget is too small
  kIo,          ///< a system call on a file failed
  kStore,       ///< the state file is missing, foreign, torn or of another version
  kInterrupted  ///< asked to stop; state saved
};

/// What went wrong, where, and what to do. Text is built on the cold path only.
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  int os_errno = 0;     ///< errno of the failed call, 0 when there was none
  std::string message;  ///< what and where, one line, no trailing period
  std::string hint;     ///< what to do, may be empty
};

template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

/// Builds the error branch: `return fail(ErrorCode::kIo, fmt::format(...), "free some space", errno)`.
[[nodiscard]] inline tl::unexpected<Error> fail(ErrorCode code, std::string message, std::string hint = {},
                                                int os_errno = 0) {
  return tl::unexpected<Error>(Error{code, os_errno, std::move(message), std::move(hint)});
}

/// The exit codes that `docs/formats.md` promises.
[[nodiscard]] constexpr int exit_code_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInternal: return 1;
    case ErrorCode::kUsage:
    case ErrorCode::kConfig: return 2;
    case ErrorCode::kDoesNotFit: return 3;
    case ErrorCode::kIo:
    case ErrorCode::kStore: return 4;
    case ErrorCode::kInterrupted: return 130;
  }
  return 1;
}

/// One line: "what and where; what to do".
[[nodiscard]] std::string to_string(const Error& error);

}  // namespace strata

#define STRATA_CONCAT_INNER(a, b) a##b
#define STRATA_CONCAT(a, b) STRATA_CONCAT_INNER(a, b)

/// Returns the error of `expression` (a Status or Result) from the enclosing function.
#define STRATA_TRY(expression)                                       \
  do {                                                               \
    if (auto strata_try_ = (expression); !strata_try_) {             \
      return ::tl::unexpected(std::move(strata_try_).error());       \
    }                                                                \
  } while (false)

/// `STRATA_ASSIGN(auto fd, open_file(path));` takes the value or returns the error.
#define STRATA_ASSIGN(declaration, expression) \
  STRATA_ASSIGN_INNER(STRATA_CONCAT(strata_result_, __LINE__), declaration, expression)
#define STRATA_ASSIGN_INNER(temporary, declaration, expression)                   \
  auto temporary = (expression);                                                  \
  if (!temporary) return ::tl::unexpected(std::move(temporary).error());          \
  declaration = *std::move(temporary)
