#include "io/uring_engine.hpp"

#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include <sys/eventfd.h>

#include "base/check.hpp"
#include "base/fd.hpp"
#include "io/block_scheduler.hpp"
#include "io/ring.hpp"
#include "io/slow_watch.hpp"

namespace strata::io {
namespace {

constexpr unsigned kSubmissionEntries = 256;
constexpr std::uint64_t kWakeTag = ~std::uint64_t{0} - 1;  // ~0 is liburing's own; others are indices of blocks

class UringEngine final : public Engine {
 public:
  UringEngine(const EngineOptions& options, ResultFilter filter)
      : inbox_capacity_(options.inbox_capacity),
        filter_(std::move(filter)),
        scheduler_({.queue_depth = options.queue_depth, .block_size = options.block_size}, files_, stats_),
        watch_(options, files_) {}

  ~UringEngine() override {
    if (!owner_.joinable()) return;
    {
      const std::lock_guard lock(mutex_);
      intake_ = Intake::kClosed;
    }
    wake();
    owner_.join();
  }

  Status start() {
    wake_fd_ = Fd(::eventfd(0, EFD_CLOEXEC));
    if (!wake_fd_) return fail(ErrorCode::kIo, "cannot make an eventfd", "raise the limit of open files", errno);
    std::promise<Status> opened;
    auto thread = start_thread("strata-io", [this, &opened] { own_ring(opened); });
    if (!thread) return tl::unexpected(thread.error());
    owner_ = std::move(*thread);
    return opened.get_future().get();
  }

  Result<FileId> attach(File file) override { return files_.add(std::move(file)); }

  void submit(Request& request) override {
    begin(request, files_);
    if (std::this_thread::get_id() == owner_id_) {  // a callback: the owner may not wait for itself
      scheduler_.add(request);
      return;
    }
    bool asleep = false;
    {
      std::unique_lock lock(mutex_);
      not_full_.wait(lock, [this] { return inbox_size_ < inbox_capacity_; });
      STRATA_CHECK(intake_ == Intake::kOpen, "a request is submitted to an engine that is being destroyed");
      inbox_.push_back(request);
      ++inbox_size_;
      asleep = std::exchange(owner_needs_wake_, false);
    }
    if (asleep) wake();
  }

  EngineStats stats() const override { return stats_.read(); }
  std::string description() const override { return description_; }

 private:
  enum class Intake : std::uint8_t { kOpen, kClosed };

  void wake() {
    const std::uint64_t one = 1;
    ssize_t written = -1;
    do {
      written = ::write(wake_fd_.get(), &one, sizeof(one));
    } while (written < 0 && errno == EINTR);
    STRATA_CHECK(written == sizeof(one), "the owner of the ring can't be woken");
  }

  // --- owner thread ---

  void own_ring(std::promise<Status>& opened) {
    owner_id_ = std::this_thread::get_id();
    auto ring = Ring::open(kSubmissionEntries);
    if (!ring) {
      opened.set_value(tl::unexpected(std::move(ring).error()));
      return;
    }
    ring_ = std::move(*ring);
    description_ = ring_->description();
    opened.set_value({});
    run();
    ring_.reset();
  }

  void run() {
    for (;;) {
      const Intake intake = take_inbox();
      if (intake == Intake::kOpen && wake_read_ == WakeRead::kIdle) post_wake_read();
      issue();
      // The destructor's wake ends the posted read, so that the ring closes with nothing in flight.
      if (intake == Intake::kClosed && scheduler_.outstanding() == 0 && wake_read_ == WakeRead::kIdle) return;
      ring_->submit_and_wait(scheduler_.outstanding() > 0 ? watch_.period_ns() : 0);
      reap();
      watch_.report(watch_.look(scheduler_));
      while (Request* request = done_.front()) {
        done_.pop_front();
        complete(*request);
      }
    }
  }

  Intake take_inbox() {
    RequestList taken;
    Intake intake{};
    {
      const std::lock_guard lock(mutex_);
      std::swap(taken, inbox_);
      if (inbox_size_ >= inbox_capacity_) not_full_.notify_all();
      inbox_size_ = 0;
      owner_needs_wake_ = true;  // whatever is posted from here on ends the next sleep
      intake = intake_;
    }
    while (Request* request = taken.front()) {
      taken.pop_front();
      scheduler_.add(*request);
    }
    return intake;
  }

  void post_wake_read() {
    io_uring_sqe* sqe = ring_->entry();
    io_uring_prep_read(sqe, wake_fd_.get(), &wake_count_, sizeof(wake_count_), 0);
    sqe->user_data = kWakeTag;
    wake_read_ = WakeRead::kPosted;
  }

  void issue() {
    const std::uint64_t limit = ring_->capacity() - 1;  // one is for the wake
    while (scheduler_.in_flight() < limit) {
      const Block* block = scheduler_.next();
      if (block == nullptr) return;
      prepare(*block);
    }
  }

  void prepare(const Block& block) {
    const Request& request = *block.request;
    const int fd = files_.at(request.file).fd.get();
    io_uring_sqe* sqe = ring_->entry();
    switch (request.op) {
      case Op::kRead:
        io_uring_prep_read(sqe, fd, block.data(), static_cast<unsigned>(block.length), block.file_offset());
        break;
      case Op::kWrite:
        io_uring_prep_write(sqe, fd, block.data(), static_cast<unsigned>(block.length), block.file_offset());
        break;
      case Op::kFlush: io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC); break;
    }
    sqe->user_data = block.index;
  }

  void reap() {
    unsigned head = 0;
    unsigned taken = 0;
    io_uring_cqe* cqe = nullptr;
    reaped_.clear();
    io_uring_for_each_cqe(ring_->get(), head, cqe) {
      reaped_.push_back({cqe->user_data, cqe->res});
      ++taken;
    }
    io_uring_cq_advance(ring_->get(), taken);
    for (const Reaped& reaped : reaped_) {
      if (reaped.tag == kWakeTag) {
        wake_read_ = WakeRead::kIdle;
      } else if (reaped.tag != LIBURING_UDATA_TIMEOUT) {
        finish(scheduler_.block(static_cast<std::uint32_t>(reaped.tag)), reaped.result);
      }
    }
  }

  void finish(Block& block, std::int64_t result) {
    if (filter_) result = filter_(block, result);
    Request& request = *block.request;
    switch (scheduler_.finish(block, result)) {
      case BlockScheduler::Verdict::kAgain: prepare(block); break;
      case BlockScheduler::Verdict::kPending: break;
      case BlockScheduler::Verdict::kDone: done_.push_back(request); break;
    }
  }

  enum class WakeRead : std::uint8_t { kIdle, kPosted };
  struct Reaped {
    std::uint64_t tag;
    std::int32_t result;
  };

  // Fixed after start().
  const std::uint32_t inbox_capacity_;
  const ResultFilter filter_;
  Fd wake_fd_;
  std::string description_;
  std::thread::id owner_id_;

  // Any thread.
  FileTable files_;
  StatCounters stats_;
  std::mutex mutex_;
  std::condition_variable not_full_;
  RequestList inbox_;  // under mutex_, as the rest of this group
  std::uint32_t inbox_size_ = 0;
  bool owner_needs_wake_ = false;
  Intake intake_ = Intake::kOpen;

  // Owner thread.
  std::unique_ptr<Ring> ring_;
  BlockScheduler scheduler_;
  SlowWatch watch_;
  std::vector<Reaped> reaped_;
  RequestList done_;
  WakeRead wake_read_ = WakeRead::kIdle;
  std::uint64_t wake_count_ = 0;

  std::thread owner_;
};

}  // namespace

Result<std::unique_ptr<Engine>> open_uring_engine(const EngineOptions& options, ResultFilter filter) {
  auto engine = std::make_unique<UringEngine>(options, std::move(filter));
  STRATA_TRY(engine->start());
  return engine;
}

}  // namespace strata::io
