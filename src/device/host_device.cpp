#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "base/check.hpp"
#include "base/size_text.hpp"
#include "device/device.hpp"
#include "memory/arena.hpp"

namespace strata::device {
namespace {

using Clock = std::chrono::steady_clock;

void finish(Copy& copy) noexcept {
  // With a callback nobody waits, and the callback may reuse or destroy the copy: it is not touched afterwards.
  const auto on_complete = copy.on_complete;
  copy.state.store(CopyState::kDone, std::memory_order_release);
  if (on_complete != nullptr) {
    on_complete(copy);
  } else {
    copy.state.notify_all();
  }
}

/// One thread that copies in the order of submission.
class LaneThread {
 public:
  explicit LaneThread(double bytes_per_s) : bytes_per_s_(bytes_per_s), thread_([this] { run(); }) {}
  LaneThread(const LaneThread&) = delete;
  LaneThread& operator=(const LaneThread&) = delete;

  ~LaneThread() {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  void push(Copy& copy) {
    const std::lock_guard lock(mutex_);
    copy.next = nullptr;
    if (last_ != nullptr) {
      last_->next = &copy;
    } else {
      first_ = &copy;
    }
    last_ = &copy;
    // Under the lock: once it is released the copy may be done, and its owner may destroy the device.
    wake_.notify_one();
  }

 private:
  void run() {
    while (Copy* copy = pop()) {
      const auto started = Clock::now();
      if (copy->length.value > 0) std::memcpy(copy->destination, copy->source, copy->length.value);
      pace(started, copy->length);
      finish(*copy);
    }
  }

  /// Null when the lane closes and the queue is empty.
  Copy* pop() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return first_ != nullptr || closing_; });
    Copy* copy = first_;
    if (copy != nullptr) {
      first_ = copy->next;
      if (first_ == nullptr) last_ = nullptr;
    }
    return copy;
  }

  /// Sleeps until the copy would have ended on a link of the wished speed. The link's own clock (free_at_) carries
  /// oversleeping over to the next copy of a busy lane, so that the mean speed is the wished one.
  void pace(Clock::time_point started, Bytes length) {
    if (bytes_per_s_ <= 0) return;
    const auto wire = std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(static_cast<double>(length.value) / bytes_per_s_));
    constexpr auto kMaxCarry = std::chrono::milliseconds(2);
    if (free_at_ + kMaxCarry < started) free_at_ = started;
    free_at_ += wire;
    std::this_thread::sleep_until(free_at_);
  }

  // Fixed after start.
  const double bytes_per_s_;
  // Any thread, under mutex_.
  std::mutex mutex_;
  std::condition_variable wake_;
  Copy* first_ = nullptr;
  Copy* last_ = nullptr;
  bool closing_ = false;
  // Lane thread only.
  Clock::time_point free_at_{};

  std::thread thread_;  // last: starts when all else is there
};

class HostDevice final : public Device {
 public:
  HostDevice(memory::Arena arena, const HostDeviceOptions& options)
      : arena_(std::move(arena)),
        size_(options.memory),
        addressing_(options.addressing),
        h2d_(options.h2d_bytes_per_s),
        d2h_(options.d2h_bytes_per_s) {}

  [[nodiscard]] std::byte* arena() const override { return arena_.data(); }
  [[nodiscard]] Bytes arena_size() const override { return size_; }
  [[nodiscard]] Addressing addressing() const override { return addressing_; }

  void submit(Copy& copy) override {
    const CopyState before = copy.state.exchange(CopyState::kQueued, std::memory_order_acq_rel);
    STRATA_CHECK(before != CopyState::kQueued, "a copy is submitted while it is in flight");
    (copy.lane == CopyLane::kHostToDevice ? h2d_ : d2h_).push(copy);
  }

  [[nodiscard]] std::string description() const override {
    return fmt::format("host device, {}, {}", format_size(size_),
                       addressing_ == Addressing::kShared ? "shared with the host" : "separate from the host");
  }

 private:
  const memory::Arena arena_;
  const Bytes size_;
  const Addressing addressing_;
  LaneThread h2d_;
  LaneThread d2h_;
};

}  // namespace

void wait(Copy& copy) {
  STRATA_CHECK(copy.on_complete == nullptr, "a copy with a callback can't be waited for");
  STRATA_CHECK(copy.state.load() != CopyState::kIdle, "wait for a copy that was never submitted");
  copy.state.wait(CopyState::kQueued, std::memory_order_acquire);
}

Result<std::unique_ptr<Device>> open_host_device(const HostDeviceOptions& options) {
  if (options.memory.value == 0) {
    return fail(ErrorCode::kUsage, "a host device with no memory", "give it a size, such as device_memory = 512MiB");
  }
  STRATA_ASSIGN(auto arena, memory::Arena::map({.size = options.memory,
                                                .residence = memory::Residence::kLazy,
                                                .page_lock = memory::PageLock::kNone}));
  return std::make_unique<HostDevice>(std::move(arena), options);
}

}  // namespace strata::device
