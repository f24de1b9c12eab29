// An I/O engine that does what another one does, except for the requests that the test picks.
#pragma once

#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "io/engine.hpp"

namespace strata::testing {

/// Shared by the test and the engine that is under the code under test. Any thread.
class FailurePlan {
 public:
  /// The n-th request of this kind from now on (1: the next one) fails, and `more` after it.
  void fail_nth(io::Op op, std::uint64_t n, std::uint64_t more = 0) {
    const std::lock_guard lock(mutex_);
    Row& row = rows_[static_cast<std::size_t>(op)];
    row.first = row.seen + n;
    row.last = row.first + more;
    failed_ = 0;
  }
  void stop() {
    const std::lock_guard lock(mutex_);
    for (Row& row : rows_) row.first = row.last = 0;
  }
  /// Requests of this kind that were submitted so far.
  [[nodiscard]] std::uint64_t seen(io::Op op) const {
    const std::lock_guard lock(mutex_);
    return rows_[static_cast<std::size_t>(op)].seen;
  }
  [[nodiscard]] std::uint64_t failed() const {
    const std::lock_guard lock(mutex_);
    return failed_;
  }

 private:
  friend class FailingIo;
  struct Row {
    std::uint64_t seen = 0;
    std::uint64_t first = 0;
    std::uint64_t last = 0;
  };
  [[nodiscard]] bool fails(io::Op op) {
    const std::lock_guard lock(mutex_);
    Row& row = rows_[static_cast<std::size_t>(op)];
    ++row.seen;
    const bool fails = row.seen >= row.first && row.seen <= row.last;
    failed_ += fails ? 1 : 0;
    return fails;
  }

  mutable std::mutex mutex_;
  std::array<Row, 3> rows_{};
  std::uint64_t failed_ = 0;
};

class FailingIo final : public io::Engine {
 public:
  FailingIo(std::unique_ptr<io::Engine> inner, std::shared_ptr<FailurePlan> plan)
      : inner_(std::move(inner)), plan_(std::move(plan)) {}

  [[nodiscard]] Result<io::FileId> attach(io::File file) override { return inner_->attach(std::move(file)); }
  void submit(io::Request& request) override {
    if (!plan_->fails(request.op)) return inner_->submit(request);
    request.error = Error{ErrorCode::kIo, EIO, "injected failure", {}};
    request.state.store(io::RequestState::kDone);
    if (request.on_complete != nullptr) {
      request.on_complete(request);
    } else {
      request.state.notify_all();
    }
  }
  [[nodiscard]] io::EngineStats stats() const override { return inner_->stats(); }
  [[nodiscard]] std::string description() const override { return inner_->description(); }

 private:
  std::unique_ptr<io::Engine> inner_;
  std::shared_ptr<FailurePlan> plan_;
};

}  // namespace strata::testing
