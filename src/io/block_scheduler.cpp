#include "io/block_scheduler.hpp"

#include <algorithm>

#include "base/check.hpp"
#include "io/io_error.hpp"
#include "io/transfer_progress.hpp"

namespace strata::io {
namespace {

// So that endless demand can't starve what runs ahead.
constexpr std::uint32_t kMaxDemandRun = 15;

std::uint64_t total_of(const Request& request) {
  return request.op == Op::kFlush ? 0 : request.length.value;
}

}  // namespace

EngineStats StatCounters::read() const {
  return {.read_bytes = read_bytes.load(std::memory_order_relaxed),
          .write_bytes = write_bytes.load(std::memory_order_relaxed),
          .requests = requests.load(std::memory_order_relaxed),
          .short_transfers = short_transfers.load(std::memory_order_relaxed),
          .retries = retries.load(std::memory_order_relaxed),
          .errors = errors.load(std::memory_order_relaxed)};
}

void RequestList::push_back(Request& request) {
  request.next = nullptr;
  if (last_ == nullptr) {
    first_ = &request;
  } else {
    last_->next = &request;
  }
  last_ = &request;
}

void RequestList::pop_front() {
  Request* popped = first_;
  first_ = popped->next;
  if (first_ == nullptr) last_ = nullptr;
  popped->next = nullptr;
}

BlockScheduler::BlockScheduler(const SchedulerLimits& limits, const FileTable& files, StatCounters& stats)
    : queue_depth_(limits.queue_depth), block_size_(limits.block_size.value), files_(files), stats_(stats) {
  STRATA_CHECK(queue_depth_ > 0 && block_size_ > 0, "a scheduler needs a depth and a block size");
}

std::size_t BlockScheduler::list_of(const Request& request) {
  if (request.op == Op::kFlush) return kFlushes;
  const std::size_t urgency = request.urgency == Urgency::kDemand ? 0 : 2;
  return urgency + (request.op == Op::kWrite ? 1 : 0);
}

void BlockScheduler::add(Request& request) {
  if (request.file.value >= queues_.size()) queues_.resize(request.file.value + 1);
  queues_[request.file.value].lists[list_of(request)].push_back(request);
  ++outstanding_;
  ++waiting_;
}

RequestList* BlockScheduler::choose(FileQueue& file) const {
  if (file.in_flight >= queue_depth_) return nullptr;
  if (!file.lists[kFlushes].empty()) return &file.lists[kFlushes];
  const bool demand = !file.lists[0].empty() || !file.lists[1].empty();
  const bool ahead = !file.lists[2].empty() || !file.lists[3].empty();
  if (!demand && !ahead) return nullptr;
  const bool pick_demand = demand && (!ahead || file.demand_run < kMaxDemandRun);
  file.demand_run = pick_demand && ahead ? file.demand_run + 1 : 0;
  const std::size_t urgency = pick_demand ? 0 : 1;
  std::size_t direction = file.turn[urgency];
  if (file.lists[2 * urgency + direction].empty()) direction = 1 - direction;
  file.turn[urgency] = static_cast<std::uint8_t>(1 - direction);
  return &file.lists[2 * urgency + direction];
}

Block* BlockScheduler::next() {
  for (std::size_t tried = 0; tried < queues_.size(); ++tried) {
    FileQueue& file = queues_[next_file_];
    next_file_ = (next_file_ + 1) % queues_.size();
    if (RequestList* list = choose(file); list != nullptr) return take(file, *list);
  }
  return nullptr;
}

Block* BlockScheduler::take(FileQueue& file, RequestList& list) {
  Request& request = *list.front();
  if (request.issued == 0) --waiting_;
  const std::uint64_t total = total_of(request);
  std::uint32_t index = 0;
  if (free_blocks_.empty()) {
    index = static_cast<std::uint32_t>(blocks_.size());
    blocks_.emplace_back();
  } else {
    index = free_blocks_.back();
    free_blocks_.pop_back();
  }
  Block& block = blocks_[index];
  block = {.request = &request,
           .begin = request.issued,
           .length = std::min(block_size_, total - request.issued),
           .index = index};
  request.issued += block.length;
  ++request.blocks_in_flight;
  ++file.in_flight;
  if (request.issued == total) list.pop_front();
  return &block;
}

BlockScheduler::Verdict BlockScheduler::finish(Block& block, std::int64_t result) {
  Request& request = *block.request;
  const Judgement judgement = judge(request.op, result, block.length);
  switch (judgement.progress) {
    case Progress::kFail: record_failure(block, judgement.os_errno); break;
    case Progress::kRetry:
      if (request.error) break;
      if (request.retries < kMaxRetries) {
        ++request.retries;
        stats_.retries.fetch_add(1, std::memory_order_relaxed);
        return Verdict::kAgain;
      }
      record_failure(block, judgement.os_errno);
      break;
    case Progress::kWhole:
    case Progress::kResume: {
      auto& bytes = request.op == Op::kRead ? stats_.read_bytes : stats_.write_bytes;
      bytes.fetch_add(judgement.advance, std::memory_order_relaxed);
      request.completed += judgement.advance;
      request.retries = 0;
      if (judgement.progress == Progress::kWhole) break;
      stats_.short_transfers.fetch_add(1, std::memory_order_relaxed);
      block.begin += judgement.advance;
      block.length -= judgement.advance;
      if (!request.error) return Verdict::kAgain;
      break;
    }
  }
  return release(block);
}

void BlockScheduler::record_failure(const Block& block, int os_errno) {
  Request& request = *block.request;
  if (!request.error) {
    stats_.errors.fetch_add(1, std::memory_order_relaxed);
    request.error = describe_failure(
        files_.at(request.file),
        {.op = request.op, .offset = Offset(block.file_offset()), .length = Bytes(block.length), .os_errno = os_errno});
  }
  // The rest of the request is not begun. A request that is begun in part is the first of its list.
  if (request.issued == total_of(request)) return;
  RequestList& list = queues_[request.file.value].lists[list_of(request)];
  STRATA_CHECK(list.front() == &request, "a request that is begun in part leads its list");
  list.pop_front();
  request.issued = total_of(request);
}

BlockScheduler::Verdict BlockScheduler::release(Block& block) {
  Request& request = *block.request;
  --queues_[request.file.value].in_flight;
  free_blocks_.push_back(block.index);
  block.request = nullptr;
  if (--request.blocks_in_flight > 0 || request.issued < total_of(request)) return Verdict::kPending;
  --outstanding_;
  stats_.requests.fetch_add(1, std::memory_order_relaxed);
  return Verdict::kDone;
}

}  // namespace strata::io
