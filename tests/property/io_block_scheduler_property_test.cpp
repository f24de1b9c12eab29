// Random requests, and random results for their blocks, against what must be true of any of them.
#include <cerrno>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "io/block_scheduler.hpp"
#include "support/seed.hpp"

namespace strata::io {
namespace {

using strata::testing::pick;

/// What the kernel saw of a request: which of its 4 KiB were transferred.
struct Seen {
  Request request;
  std::vector<std::uint8_t> moved;
  std::uint32_t in_flight = 0;
  bool failed = false;
  bool done = false;
};

struct Program {
  explicit Program(std::uint64_t seed) : random(seed) {
    for (int i = 0; i < 3; ++i)
      (void)files.add({.fd = {}, .path = "/f", .caching = Caching::kDirect, .file_system = {}});
  }

  void add() {
    Seen& seen = *all.emplace_back(std::make_unique<Seen>());
    seen.request.op = static_cast<Op>(pick(random, 0, 2));
    seen.request.urgency = static_cast<Urgency>(pick(random, 0, 1));
    seen.request.file = FileId(static_cast<std::uint32_t>(pick(random, 0, 2)));
    seen.request.length = Bytes(4096 * pick(random, 0, 40));
    seen.request.context = &seen;
    if (seen.request.op != Op::kFlush) seen.moved.resize(seen.request.length.value / 4096);
    scheduler.add(seen.request);
  }

  void take() {
    Block* block = scheduler.next();
    if (block == nullptr) return;
    Seen& seen = *static_cast<Seen*>(block->request->context);
    EXPECT_FALSE(seen.failed) << "a failed request is not begun further";
    EXPECT_LE(block->length, kBlockSize);
    ++seen.in_flight;
    ++in_flight[seen.request.file.value];
    EXPECT_LE(in_flight[seen.request.file.value], kDepth);
    blocks.push_back(block);
  }

  std::int64_t result_for(const Block& block) {
    const auto length = static_cast<std::int64_t>(block.length);
    const bool flush = block.request->op == Op::kFlush;
    switch (pick(random, 0, 19)) {
      case 0: return -EIO;
      case 1: return -EAGAIN;
      case 2: return -EINTR;
      case 3:
      case 4: return flush || length == 0 ? 0 : static_cast<std::int64_t>(pick(random, 1, block.length));
      default: return flush ? 0 : length;
    }
  }

  void finish() {
    if (blocks.empty()) return;
    const std::uint64_t chosen = pick(random, 0, blocks.size() - 1);
    Block& block = *blocks[chosen];
    Seen& seen = *static_cast<Seen*>(block.request->context);
    const std::int64_t result = result_for(block);
    for (std::int64_t page = 0; page < result / 4096; ++page) {
      std::uint8_t& moved = seen.moved[block.begin / 4096 + static_cast<std::uint64_t>(page)];
      EXPECT_EQ(moved, 0) << "a page is transferred twice";
      moved = 1;
    }
    if (result == -EIO) seen.failed = true;
    const BlockScheduler::Verdict verdict = scheduler.finish(block, result);
    if (verdict == BlockScheduler::Verdict::kAgain) return;
    --seen.in_flight;
    --in_flight[seen.request.file.value];
    blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(chosen));
    if (verdict == BlockScheduler::Verdict::kPending) return;
    EXPECT_FALSE(seen.done) << "a request completes once";
    EXPECT_EQ(seen.in_flight, 0u) << "the buffer is still in use";
    seen.done = true;
    EXPECT_EQ(seen.request.error.has_value(), seen.failed);
    if (seen.failed) return;
    for (const std::uint8_t moved : seen.moved) EXPECT_EQ(moved, 1) << "a page is missing";
    EXPECT_EQ(seen.request.completed, seen.moved.size() * 4096);
  }

  static constexpr std::uint32_t kDepth = 3;
  static constexpr std::uint64_t kBlockSize = 5 * 4096;
  std::mt19937_64 random;
  FileTable files;
  StatCounters stats;
  BlockScheduler scheduler{{.queue_depth = kDepth, .block_size = Bytes(kBlockSize)}, files, stats};
  std::vector<std::unique_ptr<Seen>> all;
  std::vector<Block*> blocks;
  std::uint32_t in_flight[3] = {0, 0, 0};
};

TEST(BlockSchedulerPropertyTest, EveryRequestCompletesOnceWithAllItsBytesOrAnError) {
  std::mt19937_64 seeds(strata::testing::test_seed());
  for (int run = 0; run < 100; ++run) {
    Program program(seeds());
    for (int step = 0; step < 300; ++step) {
      switch (pick(program.random, 0, 4)) {
        case 0: program.add(); break;
        case 1:
        case 2: program.take(); break;
        default: program.finish(); break;
      }
    }
    while (program.scheduler.outstanding() > 0) {
      program.take();
      program.finish();
    }
    for (const auto& seen : program.all) ASSERT_TRUE(seen->done);
    ASSERT_EQ(program.stats.read().requests, program.all.size());
    if (HasFailure()) break;
  }
}

}  // namespace
}  // namespace strata::io
