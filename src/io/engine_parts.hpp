// Steps of a request's life that every backend takes in the same way.
#pragma once

#include <csignal>
#include <cstdint>
#include <ctime>
#include <functional>
#include <system_error>
#include <thread>
#include <utility>

#include <pthread.h>

#include "base/check.hpp"
#include "io/block_scheduler.hpp"

namespace strata::io {

[[nodiscard]] inline std::uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

/// Some file systems serve a misaligned direct transfer through the page cache, silently, at half the speed. No device
/// has smaller blocks than these.
inline constexpr std::uint64_t kSmallestAlignment = 512;

[[nodiscard]] inline bool is_aligned(const Request& request) {
  const std::uint64_t bits =
      request.offset.value | request.length.value | reinterpret_cast<std::uintptr_t>(request.data);
  return bits % kSmallestAlignment == 0;
}

/// First step of submit(): the caller's part is checked, what an earlier use left in the request is cleared.
inline void begin(Request& request, const FileTable& files) {
  const File& file = files.at(request.file);
  STRATA_CHECK(request.op == Op::kFlush || file.caching == Caching::kBuffered || is_aligned(request),
               "offset, length and address of a direct transfer are multiples of 512, better of 4096");
  STRATA_CHECK(request.state.load(std::memory_order_relaxed) != RequestState::kQueued,
               "a request is submitted while it is in flight");
  request.error.reset();
  request.next = nullptr;
  request.issued = 0;
  request.completed = 0;
  request.blocks_in_flight = 0;
  request.retries = 0;
  request.reported_slow = false;
  request.submitted_ns = monotonic_ns();
  request.state.store(RequestState::kQueued, std::memory_order_relaxed);
}

/// Last step: hands the request back to its owner. It may be gone afterwards.
inline void complete(Request& request) noexcept {
  const auto on_complete = request.on_complete;
  if (on_complete == nullptr) {
    // The waiter may destroy the request as soon as it sees kDone; notify_all uses the address only.
    auto& state = request.state;
    state.store(RequestState::kDone, std::memory_order_release);
    state.notify_all();
    return;
  }
  request.state.store(RequestState::kDone, std::memory_order_release);
  request.state.notify_all();
  on_complete(request);
}

/// Sees every result before it is judged, and may replace it: how tests inject short transfers and errors. Runs on the
/// engine's thread. Empty in production.
using ResultFilter = std::function<std::int64_t(const Block&, std::int64_t)>;

/// A thread that takes no signals (they belong to the program's own threads) and that tools show by its name.
template <class Run>
[[nodiscard]] Result<std::thread> start_thread(const char* name, Run run) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  Result<std::thread> started;
  try {
    started = std::thread(std::move(run));
    pthread_setname_np(started->native_handle(), name);
  } catch (const std::system_error& error) {
    started = fail(ErrorCode::kIo, "cannot start a thread for disk I/O", "raise the limit of processes (ulimit -u)",
                   error.code().value());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return started;
}

}  // namespace strata::io
