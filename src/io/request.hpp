// One I/O request: a completion token that its caller owns.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/result.hpp"
#include "strata/types.hpp"

namespace strata::io {

using FileId = Id<struct FileTag>;

enum class Op : std::uint8_t { kRead, kWrite, kFlush };

/// A fetch that somebody waits for goes before those that run ahead.
enum class Urgency : std::uint8_t { kAhead, kDemand };

enum class RequestState : std::uint32_t { kIdle, kQueued, kDone };

/// Caller-owned and pinned in memory from submit until kDone; no allocation per I/O.
/// `data`, `offset` and `length` are multiples of the file's alignment (4 KiB suits all); any length up to the file's
/// size: the engine splits it into blocks. A flush ignores them and makes all earlier completed writes of the file
/// durable.
struct Request {
  Request() = default;
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  // Set by the caller before submit.
  Op op = Op::kRead;
  Urgency urgency = Urgency::kAhead;
  FileId file;
  Offset offset;
  std::byte* data = nullptr;
  Bytes length;
  /// Called once, on the engine's thread, after the last block; must be short and must not block. May submit other
  /// requests. May be null: then wait() on the request. The request may be reused or destroyed from within it, so
  /// nobody else may wait() on a request that does either.
  void (*on_complete)(Request&) noexcept = nullptr;
  void* context = nullptr;

  // Set by the engine.
  std::atomic<RequestState> state{RequestState::kIdle};
  std::optional<Error> error;  ///< valid once kDone: names path, offset, length, errno, and free space for ENOSPC

  // Owned by the engine while queued.
  Request* next = nullptr;
  std::uint64_t issued = 0;     ///< bytes handed to the kernel
  std::uint64_t completed = 0;  ///< bytes known to be transferred
  std::uint32_t blocks_in_flight = 0;
  std::uint32_t retries = 0;  ///< in a row, without progress
  bool reported_slow = false;
  std::uint64_t submitted_ns = 0;
};

}  // namespace strata::io
