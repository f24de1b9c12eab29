#include "io/threads_engine.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "base/check.hpp"
#include "io/block_scheduler.hpp"
#include "io/slow_watch.hpp"

namespace strata::io {
namespace {

std::int64_t perform(const Block& block, int fd) {
  const auto at = static_cast<off_t>(block.file_offset());
  std::int64_t result = 0;
  switch (block.request->op) {
    case Op::kRead: result = ::pread(fd, block.data(), block.length, at); break;
    case Op::kWrite: result = ::pwrite(fd, block.data(), block.length, at); break;
    case Op::kFlush: result = ::fdatasync(fd); break;
  }
  return result < 0 ? -errno : result;
}

class ThreadsEngine final : public Engine {
 public:
  ThreadsEngine(const EngineOptions& options, ResultFilter filter)
      : inbox_capacity_(options.inbox_capacity),
        thread_count_(options.threads),
        filter_(std::move(filter)),
        scheduler_({.queue_depth = options.queue_depth, .block_size = options.block_size}, files_, stats_),
        watch_(options, files_) {}

  ~ThreadsEngine() override {
    {
      const std::lock_guard lock(mutex_);
      intake_ = Intake::kClosed;
    }
    work_.notify_all();
    watched_.notify_all();
    for (std::thread& thread : workers_) thread.join();
    if (watcher_.joinable()) watcher_.join();
  }

  Status start() {
    for (std::uint32_t i = 0; i < thread_count_; ++i) {
      STRATA_ASSIGN(std::thread thread, start_thread("strata-io", [this] { work(); }));
      const std::lock_guard lock(mutex_);
      workers_.push_back(std::move(thread));
    }
    if (watch_.period_ns() == 0) return {};
    STRATA_ASSIGN(watcher_, start_thread("strata-io-watch", [this] { watch(); }));
    return {};
  }

  Result<FileId> attach(File file) override { return files_.add(std::move(file)); }

  void submit(Request& request) override {
    begin(request, files_);
    {
      std::unique_lock lock(mutex_);
      const auto has_room = [this] { return scheduler_.waiting() < inbox_capacity_; };
      if (!has_room() && !is_worker(std::this_thread::get_id())) {  // a worker's callback may not wait for workers
        ++blocked_submitters_;
        not_full_.wait(lock, has_room);
        --blocked_submitters_;
      }
      scheduler_.add(request);
      if (std::exchange(watcher_rests_, false)) watched_.notify_one();
      if (idle_workers_ > 0) work_.notify_one();
    }
  }

  EngineStats stats() const override { return stats_.read(); }
  std::string description() const override { return fmt::format("threads ({})", thread_count_); }

 private:
  enum class Intake : std::uint8_t { kOpen, kClosed };

  bool is_worker(std::thread::id id) const {
    return std::any_of(workers_.begin(), workers_.end(), [id](const std::thread& w) { return w.get_id() == id; });
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      Block* block = scheduler_.next();
      if (block == nullptr) {
        if (intake_ == Intake::kClosed && scheduler_.outstanding() == 0) return;
        ++idle_workers_;
        work_.wait(lock);
        --idle_workers_;
        continue;
      }
      if (idle_workers_ > 0) work_.notify_one();  // there may be a second block; who finds none goes back to sleep
      if (blocked_submitters_ > 0) not_full_.notify_one();
      serve(*block, lock);
    }
  }

  /// Carries the block to its end. `lock` is held on entry and on return.
  void serve(Block& block, std::unique_lock<std::mutex>& lock) {
    Request& request = *block.request;
    const int fd = files_.at(request.file).fd.get();
    for (;;) {
      lock.unlock();
      std::int64_t result = perform(block, fd);
      if (filter_) result = filter_(block, result);
      lock.lock();
      const BlockScheduler::Verdict verdict = scheduler_.finish(block, result);
      if (verdict == BlockScheduler::Verdict::kAgain) continue;
      if (intake_ == Intake::kClosed && scheduler_.outstanding() == 0) work_.notify_all();
      if (verdict == BlockScheduler::Verdict::kPending) return;
      lock.unlock();
      complete(request);
      lock.lock();
      return;
    }
  }

  void watch() {
    std::unique_lock lock(mutex_);
    const std::chrono::nanoseconds period(watch_.period_ns());
    while (intake_ == Intake::kOpen || scheduler_.outstanding() > 0) {
      if (scheduler_.outstanding() == 0) {
        watcher_rests_ = true;
        watched_.wait(lock);
        continue;
      }
      watched_.wait_for(lock, period);
      const std::vector<std::string> lines = watch_.look(scheduler_);
      lock.unlock();
      watch_.report(lines);
      lock.lock();
    }
  }

  // Fixed after start().
  const std::uint32_t inbox_capacity_;
  const std::uint32_t thread_count_;
  const ResultFilter filter_;

  // Any thread.
  FileTable files_;
  StatCounters stats_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable not_full_;
  std::condition_variable watched_;
  BlockScheduler scheduler_;  // under mutex_, as the rest of this group
  SlowWatch watch_;
  std::uint32_t blocked_submitters_ = 0;
  std::uint32_t idle_workers_ = 0;
  bool watcher_rests_ = false;
  Intake intake_ = Intake::kOpen;
  std::vector<std::thread> workers_;

  std::thread watcher_;
};

}  // namespace

Result<std::unique_ptr<Engine>> open_threads_engine(const EngineOptions& options, ResultFilter filter) {
  auto engine = std::make_unique<ThreadsEngine>(options, std::move(filter));
  STRATA_TRY(engine->start());
  return engine;
}

}  // namespace strata::io
