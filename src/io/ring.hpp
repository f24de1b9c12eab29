// An io_uring instance with the best flags that the kernel grants.
#pragma once

#include <memory>
#include <string>

#include <liburing.h>

#include "base/result.hpp"

namespace strata::io {

/// Made, used and destroyed by one thread: with SINGLE_ISSUER the kernel insists on it. Pinned in memory.
class Ring {
 public:
  /// kIo with the errno where the kernel refuses io_uring or lacks what we need of it (5.11).
  [[nodiscard]] static Result<std::unique_ptr<Ring>> open(unsigned entries);
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  [[nodiscard]] io_uring* get() { return &ring_; }
  /// "io_uring (single issuer, deferred task run)".
  [[nodiscard]] const std::string& description() const { return description_; }

  /// Completions that the ring can hold. Whoever has no more than these in flight never loses time to an overflow.
  [[nodiscard]] unsigned capacity() const { return ring_.cq.ring_entries; }

  /// A free submission entry; submits what is there when the queue is full.
  [[nodiscard]] io_uring_sqe* entry();
  /// Submits what is there and sleeps until a completion arrives or `timeout_ns` has passed (0: no limit).
  void submit_and_wait(std::uint64_t timeout_ns);

 private:
  Ring() = default;

  io_uring ring_{};
  bool open_ = false;
  std::string description_;
};

}  // namespace strata::io
