#include "io/engine.hpp"

#include <fmt/format.h>

#include "base/check.hpp"
#include "io/threads_engine.hpp"
#include "io/uring_engine.hpp"

namespace strata::io {
namespace {

constexpr Bytes kMaxBlock{1u << 30};

Status check(const EngineOptions& options) {
  const Bytes block = options.block_size;
  if (block.value == 0 || block.value % kBlockAlignment.value != 0 || block > kMaxBlock) {
    return fail(ErrorCode::kConfig, fmt::format("the I/O block size is {} bytes", block.value),
                "aio.block_size must be a multiple of 4 KiB, at most 1 GiB");
  }
  if (options.queue_depth == 0) {
    return fail(ErrorCode::kConfig, "the I/O queue depth is 0", "aio.queue_depth must be at least 1");
  }
  if (options.threads == 0) {
    return fail(ErrorCode::kConfig, "the number of I/O threads is 0", "give at least 1");
  }
  if (options.inbox_capacity == 0) {
    return fail(ErrorCode::kConfig, "the I/O inbox has no room", "give it a capacity of at least 1");
  }
  if (!(options.slow_after_s >= 0 && options.slow_after_s <= 1e9)) {
    return fail(ErrorCode::kConfig, fmt::format("slow requests are to be reported after {} s", options.slow_after_s),
                "strata.io_slow_s must be a number of seconds; 0 switches the report off");
  }
  return {};
}

}  // namespace

Status wait(Request& request) {
  for (;;) {
    const RequestState state = request.state.load(std::memory_order_acquire);
    STRATA_CHECK(state != RequestState::kIdle, "a request that was never submitted is waited for");
    if (state == RequestState::kDone) break;
    request.state.wait(state, std::memory_order_acquire);
  }
  if (request.error) return tl::unexpected(*request.error);
  return {};
}

Status transfer(Engine& engine, Op op, FileId file, Offset offset, std::byte* data, Bytes length) {
  Request request;
  request.op = op;
  request.urgency = Urgency::kDemand;
  request.file = file;
  request.offset = offset;
  request.data = data;
  request.length = length;
  engine.submit(request);
  return wait(request);
}

Result<std::unique_ptr<Engine>> open_engine(const EngineOptions& options) {
  STRATA_TRY(check(options));
  if (options.kind == EngineKind::kThreads) return open_threads_engine(options);
  auto uring = open_uring_engine(options);
  if (uring || options.kind == EngineKind::kUring) return uring;
  auto threads = open_threads_engine(options);
  if (threads && options.report) {
    Error why = uring.error();
    why.hint.clear();
    options.report(fmt::format("{}: disk I/O runs on {} instead", to_string(why), (*threads)->description()));
  }
  return threads;
}

}  // namespace strata::io
