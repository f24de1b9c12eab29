// Cuts requests into blocks and decides which block goes to the kernel next. No I/O, no clock, no lock: every backend
// drives one, so that all of them share one contract.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <vector>

#include "io/engine.hpp"
#include "io/file_table.hpp"
#include "io/request.hpp"

namespace strata::io {

/// A piece of a request while it is with the kernel.
struct Block {
  Request* request = nullptr;
  std::uint64_t begin = 0;   ///< from the start of the request
  std::uint64_t length = 0;  ///< still to be transferred
  std::uint32_t index = 0;   ///< of the block among the scheduler's

  [[nodiscard]] std::byte* data() const { return request->data + begin; }
  [[nodiscard]] std::uint64_t file_offset() const { return request->offset.value + begin; }
};

/// Counters that the engine's threads write and any thread reads.
struct StatCounters {
  std::atomic<std::uint64_t> read_bytes = 0;
  std::atomic<std::uint64_t> write_bytes = 0;
  std::atomic<std::uint64_t> requests = 0;
  std::atomic<std::uint64_t> short_transfers = 0;
  std::atomic<std::uint64_t> retries = 0;
  std::atomic<std::uint64_t> errors = 0;

  [[nodiscard]] EngineStats read() const;
};

/// First in, first out; links requests through Request::next.
class RequestList {
 public:
  [[nodiscard]] bool empty() const { return first_ == nullptr; }
  [[nodiscard]] Request* front() const { return first_; }
  void push_back(Request& request);
  void pop_front();

 private:
  Request* first_ = nullptr;
  Request* last_ = nullptr;
};

struct SchedulerLimits {
  std::uint32_t queue_depth = 1;  ///< blocks in flight, per file
  Bytes block_size;
};

/// Order within a file: flushes, then kDemand before kAhead (which gets every 16th block all the same), reads and
/// writes in turn, each of them first in, first out. Files take turns. Not thread-safe.
class BlockScheduler {
 public:
  enum class Verdict : std::uint8_t {
    kAgain,    ///< hand the block to the kernel once more; it was moved on
    kPending,  ///< the block is gone, its request has others
    kDone      ///< the block is gone, and its request is complete: `error` is set or all bytes are transferred
  };

  BlockScheduler(const SchedulerLimits& limits, const FileTable& files, StatCounters& stats);

  void add(Request& request);
  /// The next block to hand to the kernel; nullptr: nothing is queued or every file with work is at its depth.
  [[nodiscard]] Block* next();
  /// Takes what the kernel returned: a count of bytes or -errno.
  [[nodiscard]] Verdict finish(Block& block, std::int64_t result);

  [[nodiscard]] Block& block(std::uint32_t index) { return blocks_[index]; }
  /// Requests that are not complete.
  [[nodiscard]] std::uint64_t outstanding() const { return outstanding_; }
  /// Blocks that are with the kernel.
  [[nodiscard]] std::uint64_t in_flight() const { return blocks_.size() - free_blocks_.size(); }
  /// Requests of which no block was handed out.
  [[nodiscard]] std::uint64_t waiting() const { return waiting_; }

  /// Calls `visit(Request&)` for every request that is not complete, some of them more than once.
  template <class Visit>
  void for_each_outstanding(Visit visit) {
    for (FileQueue& file : queues_) {
      for (const RequestList& list : file.lists) {
        for (Request* request = list.front(); request != nullptr; request = request->next) visit(*request);
      }
    }
    for (Block& block : blocks_) {
      if (block.request != nullptr) visit(*block.request);
    }
  }

 private:
  static constexpr std::size_t kFlushes = 4;  // after [urgency][read, write]

  struct FileQueue {
    std::array<RequestList, 5> lists;
    std::uint32_t in_flight = 0;
    std::uint32_t demand_run = 0;        // blocks of demand since the last block that ran ahead
    std::array<std::uint8_t, 2> turn{};  // per urgency: 0 read, 1 write
  };

  static std::size_t list_of(const Request& request);
  [[nodiscard]] RequestList* choose(FileQueue& file) const;
  Block* take(FileQueue& file, RequestList& list);
  void record_failure(const Block& block, int os_errno);
  Verdict release(Block& block);

  const std::uint32_t queue_depth_;
  const std::uint64_t block_size_;
  const FileTable& files_;
  StatCounters& stats_;
  std::vector<FileQueue> queues_;
  std::size_t next_file_ = 0;
  std::deque<Block> blocks_;  // references stay valid as it grows
  std::vector<std::uint32_t> free_blocks_;
  std::uint64_t outstanding_ = 0;
  std::uint64_t waiting_ = 0;
};

}  // namespace strata::io
