// An I/O engine for tests: one thread, plain pread and pwrite, and operations that can be held back or made to fail.
#pragma once

#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <unistd.h>

#include "io/engine.hpp"

namespace strata::testing {

class ScriptedEngine final : public io::Engine {
 public:
  ScriptedEngine() : thread_([this] { run(); }) {}

  ~ScriptedEngine() override {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
      held_.fill(Held::kNo);
    }
    changed_.notify_all();
    thread_.join();
  }

  [[nodiscard]] Result<io::FileId> attach(io::File file) override {
    const std::lock_guard lock(mutex_);
    files_.push_back(std::move(file));
    return io::FileId(static_cast<std::uint32_t>(files_.size() - 1));
  }

  void submit(io::Request& request) override {
    const std::lock_guard lock(mutex_);
    request.state.store(io::RequestState::kQueued);
    queue_.push_back(&request);
    ++submitted_[index(request.op)];
    changed_.notify_all();
  }

  [[nodiscard]] io::EngineStats stats() const override { return {}; }
  [[nodiscard]] std::string description() const override { return "scripted"; }

  /// Requests of this kind wait in the queue until release().
  void hold(io::Op op) {
    const std::lock_guard lock(mutex_);
    held_[index(op)] = Held::kYes;
  }

  void release(io::Op op) {
    const std::lock_guard lock(mutex_);
    held_[index(op)] = Held::kNo;
    changed_.notify_all();
  }

  /// The next request of this kind that runs fails with EIO and moves nothing.
  void fail_next(io::Op op) {
    const std::lock_guard lock(mutex_);
    ++failures_[index(op)];
  }

  [[nodiscard]] std::uint64_t submitted(io::Op op) const {
    const std::lock_guard lock(mutex_);
    return submitted_[index(op)];
  }

  /// Blocks until so many requests of this kind were submitted since the engine was made. False after 10 s.
  [[nodiscard]] bool wait_submitted(io::Op op, std::uint64_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return submitted_[index(op)] >= count; });
  }

 private:
  enum class Held : std::uint8_t { kNo, kYes };

  static std::size_t index(io::Op op) { return static_cast<std::size_t>(op); }

  void run() {
    while (io::Request* request = next()) perform(*request);
  }

  io::Request* next() {
    std::unique_lock lock(mutex_);
    for (;;) {
      for (auto entry = queue_.begin(); entry != queue_.end(); ++entry) {
        if (held_[index((*entry)->op)] == Held::kYes) continue;
        io::Request* request = *entry;
        queue_.erase(entry);
        return request;
      }
      if (closing_ && queue_.empty()) return nullptr;
      changed_.wait(lock);
    }
  }

  void perform(io::Request& request) {
    int fd = -1;
    bool fails = false;
    std::string path;
    {
      const std::lock_guard lock(mutex_);
      fd = files_[request.file.value].fd.get();
      path = files_[request.file.value].path;
      auto& failures = failures_[index(request.op)];
      fails = failures > 0;
      if (fails) --failures;
    }
    request.error.reset();
    if (fails) {
      request.error = Error{.code = ErrorCode::kIo, .os_errno = EIO, .message = path + ": injected", .hint = {}};
    } else if (request.op != io::Op::kFlush) {
      transfer(request, fd);
    }
    const auto on_complete = request.on_complete;
    request.state.store(io::RequestState::kDone);
    if (on_complete != nullptr) {
      on_complete(request);
    } else {
      request.state.notify_all();
    }
  }

  static void transfer(io::Request& request, int fd) {
    std::uint64_t done = 0;
    while (done < request.length.value) {
      const std::size_t left = request.length.value - done;
      const auto at = static_cast<off_t>(request.offset.value + done);
      const ssize_t moved = request.op == io::Op::kRead ? ::pread(fd, request.data + done, left, at)
                                                        : ::pwrite(fd, request.data + done, left, at);
      if (moved <= 0) {
        request.error = Error{.code = ErrorCode::kIo, .os_errno = errno, .message = "scripted transfer", .hint = {}};
        return;
      }
      done += static_cast<std::uint64_t>(moved);
    }
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<io::File> files_;
  std::deque<io::Request*> queue_;
  std::array<Held, 3> held_{};
  std::array<std::uint32_t, 3> failures_{};
  std::array<std::uint64_t, 3> submitted_{};
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace strata::testing
