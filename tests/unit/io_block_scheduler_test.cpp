#include "io/block_scheduler.hpp"

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "io/transfer_progress.hpp"

namespace strata::io {
namespace {

using Verdict = BlockScheduler::Verdict;

class BlockSchedulerTest : public ::testing::Test {
 protected:
  BlockSchedulerTest() {
    (void)files_.add({.fd = {}, .path = "/data/first", .caching = Caching::kDirect, .file_system = {}});
    (void)files_.add({.fd = {}, .path = "/data/second", .caching = Caching::kDirect, .file_system = {}});
  }

  BlockScheduler make(std::uint32_t depth) {
    return {{.queue_depth = depth, .block_size = Bytes(kBlock)}, files_, stats_};
  }

  Request& request(Op op, std::uint64_t blocks, Urgency urgency = Urgency::kAhead, std::uint32_t file = 0) {
    Request& made = *requests_.emplace_back(std::make_unique<Request>());
    made.op = op;
    made.urgency = urgency;
    made.file = FileId(file);
    made.length = Bytes(blocks * kBlock);
    return made;
  }

  /// The operations of the next blocks, one after the other, each completed at once.
  std::string order(BlockScheduler& scheduler, int count) {
    std::string text;
    for (int i = 0; i < count; ++i) {
      Block* block = scheduler.next();
      if (block == nullptr) return text + ".";
      const Request& of = *block->request;
      const char letter = of.op == Op::kFlush ? 'f' : of.op == Op::kRead ? 'r' : 'w';
      text += of.urgency == Urgency::kDemand ? static_cast<char>(letter - 'a' + 'A') : letter;
      (void)scheduler.finish(*block, of.op == Op::kFlush ? 0 : static_cast<std::int64_t>(block->length));
    }
    return text;
  }

  static constexpr std::uint64_t kBlock = 16384;
  FileTable files_;
  StatCounters stats_;
  std::vector<std::unique_ptr<Request>> requests_;
};

TEST_F(BlockSchedulerTest, CutsARequestIntoBlocksThatCoverIt) {
  BlockScheduler scheduler = make(32);
  Request& read = request(Op::kRead, 3);
  read.offset = Offset(4096);
  read.length = Bytes(2 * kBlock + 4096);
  scheduler.add(read);
  std::vector<Block*> blocks;
  while (Block* block = scheduler.next()) blocks.push_back(block);
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(blocks[0]->file_offset(), 4096u);
  EXPECT_EQ(blocks[1]->file_offset(), 4096u + kBlock);
  EXPECT_EQ(blocks[2]->file_offset(), 4096u + 2 * kBlock);
  EXPECT_EQ(blocks[2]->length, 4096u);
  EXPECT_EQ(scheduler.finish(*blocks[2], 4096), Verdict::kPending);
  EXPECT_EQ(scheduler.finish(*blocks[0], kBlock), Verdict::kPending);
  EXPECT_EQ(scheduler.finish(*blocks[1], kBlock), Verdict::kDone);
  EXPECT_EQ(read.completed, read.length.value);
  EXPECT_FALSE(read.error);
  EXPECT_EQ(scheduler.outstanding(), 0u);
}

TEST_F(BlockSchedulerTest, KeepsTheQueueFullAcrossRequestsAndNeverFuller) {
  BlockScheduler scheduler = make(4);
  for (int i = 0; i < 3; ++i) scheduler.add(request(Op::kRead, 2));
  std::vector<Block*> blocks;
  while (Block* block = scheduler.next()) blocks.push_back(block);
  ASSERT_EQ(blocks.size(), 4u);
  EXPECT_EQ(scheduler.waiting(), 1u);
  (void)scheduler.finish(*blocks[3], kBlock);
  EXPECT_NE(scheduler.next(), nullptr);
  EXPECT_EQ(scheduler.next(), nullptr);
}

TEST_F(BlockSchedulerTest, DepthCountsPerFile) {
  BlockScheduler scheduler = make(2);
  scheduler.add(request(Op::kRead, 8, Urgency::kAhead, 0));
  scheduler.add(request(Op::kRead, 8, Urgency::kAhead, 1));
  int counts[2] = {0, 0};
  while (Block* block = scheduler.next()) ++counts[block->request->file.value];
  EXPECT_EQ(counts[0], 2);
  EXPECT_EQ(counts[1], 2);
}

TEST_F(BlockSchedulerTest, ReadsAndWritesTakeTurns) {
  BlockScheduler scheduler = make(1);
  scheduler.add(request(Op::kRead, 4));
  scheduler.add(request(Op::kRead, 4));
  scheduler.add(request(Op::kWrite, 4));
  EXPECT_EQ(order(scheduler, 13), "rwrwrwrwrrrr.");
}

TEST_F(BlockSchedulerTest, DemandGoesBeforeWhatRunsAheadAndFlushesBeforeAll) {
  BlockScheduler scheduler = make(1);
  scheduler.add(request(Op::kRead, 3));
  EXPECT_EQ(order(scheduler, 1), "r");
  scheduler.add(request(Op::kRead, 2, Urgency::kDemand));
  scheduler.add(request(Op::kWrite, 2, Urgency::kDemand));
  scheduler.add(request(Op::kFlush, 0));
  EXPECT_EQ(order(scheduler, 8), "fRWRWrr.");
}

TEST_F(BlockSchedulerTest, EndlessDemandDoesNotStarveWhatRunsAhead) {
  BlockScheduler scheduler = make(1);
  scheduler.add(request(Op::kWrite, 2));
  scheduler.add(request(Op::kRead, 100, Urgency::kDemand));
  EXPECT_EQ(order(scheduler, 33), "RRRRRRRRRRRRRRRwRRRRRRRRRRRRRRRwR");
}

TEST_F(BlockSchedulerTest, ShortTransferGoesOnFromTheAlignedByte) {
  BlockScheduler scheduler = make(1);
  Request& write = request(Op::kWrite, 1);
  write.offset = Offset(8192);
  scheduler.add(write);
  Block& block = *scheduler.next();
  EXPECT_EQ(scheduler.finish(block, 4096 + 100), Verdict::kAgain);
  EXPECT_EQ(block.file_offset(), 8192u + 4096);
  EXPECT_EQ(block.length, kBlock - 4096);
  EXPECT_EQ(scheduler.finish(block, static_cast<std::int64_t>(block.length)), Verdict::kDone);
  EXPECT_EQ(write.completed, kBlock);
  EXPECT_EQ(stats_.read().short_transfers, 1u);
  EXPECT_EQ(stats_.read().write_bytes, kBlock);
}

TEST_F(BlockSchedulerTest, RetriesAreCountedInARowAndBounded) {
  BlockScheduler scheduler = make(1);
  Request& read = request(Op::kRead, 2);
  scheduler.add(read);
  Block* block = scheduler.next();
  for (std::uint32_t i = 0; i < kMaxRetries; ++i) ASSERT_EQ(scheduler.finish(*block, -EAGAIN), Verdict::kAgain);
  EXPECT_EQ(scheduler.finish(*block, kBlock), Verdict::kPending);  // progress: the count begins anew
  block = scheduler.next();
  for (std::uint32_t i = 0; i < kMaxRetries; ++i) ASSERT_EQ(scheduler.finish(*block, -EINTR), Verdict::kAgain);
  EXPECT_EQ(scheduler.finish(*block, -EINTR), Verdict::kDone);
  ASSERT_TRUE(read.error);
  EXPECT_EQ(read.error->os_errno, EINTR);
  EXPECT_EQ(stats_.read().retries, 2 * kMaxRetries);
}

TEST_F(BlockSchedulerTest, AReadThatNeverBringsFourKibibytesEnds) {
  BlockScheduler scheduler = make(1);
  Request& read = request(Op::kRead, 1);
  scheduler.add(read);
  Block* block = scheduler.next();
  for (std::uint32_t i = 0; i < kMaxRetries; ++i) ASSERT_EQ(scheduler.finish(*block, 100), Verdict::kAgain);
  EXPECT_EQ(scheduler.finish(*block, 100), Verdict::kDone);
  ASSERT_TRUE(read.error);
  EXPECT_NE(read.error->message.find("ends"), std::string::npos);
}

TEST_F(BlockSchedulerTest, AFailedBlockEndsItsRequestAfterTheOthersCameBack) {
  BlockScheduler scheduler = make(3);
  Request& failing = request(Op::kWrite, 8);
  failing.offset = Offset(1 << 20);
  scheduler.add(failing);
  Request& next = request(Op::kWrite, 1);
  scheduler.add(next);
  std::vector<Block*> blocks;
  while (Block* block = scheduler.next()) blocks.push_back(block);
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(scheduler.finish(*blocks[1], -EIO), Verdict::kPending);
  // The five blocks that were not begun are dropped; the next request moves up.
  Block* moved_up = scheduler.next();
  ASSERT_NE(moved_up, nullptr);
  EXPECT_EQ(moved_up->request, &next);
  EXPECT_EQ(scheduler.finish(*blocks[0], 4096), Verdict::kPending) << "not resumed, since the request has failed";
  EXPECT_EQ(scheduler.finish(*blocks[2], -ENOSPC), Verdict::kDone);
  ASSERT_TRUE(failing.error);
  EXPECT_EQ(failing.error->os_errno, EIO) << "the first failure counts";
  EXPECT_EQ(failing.error->code, ErrorCode::kIo);
  const std::string text = to_string(*failing.error);
  for (const char* part : {"write", "16384 bytes", "offset 1064960", "/data/first", "Input/output error"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
  }
  EXPECT_EQ(scheduler.finish(*moved_up, kBlock), Verdict::kDone);
  EXPECT_FALSE(next.error);
  EXPECT_EQ(stats_.read().errors, 1u);
  EXPECT_EQ(scheduler.outstanding(), 0u);
}

TEST_F(BlockSchedulerTest, AFailedFlushSaysSo) {
  BlockScheduler scheduler = make(1);
  Request& flush = request(Op::kFlush, 0);
  scheduler.add(flush);
  EXPECT_EQ(scheduler.finish(*scheduler.next(), -EIO), Verdict::kDone);
  ASSERT_TRUE(flush.error);
  EXPECT_NE(flush.error->message.find("flush /data/first"), std::string::npos) << flush.error->message;
}

TEST_F(BlockSchedulerTest, VisitsEveryRequestThatIsNotComplete) {
  BlockScheduler scheduler = make(1);
  Request& served = request(Op::kRead, 1);
  Request& queued = request(Op::kWrite, 1, Urgency::kDemand, 1);
  scheduler.add(served);
  Block* block = scheduler.next();
  scheduler.add(queued);
  std::vector<const Request*> seen;
  scheduler.for_each_outstanding([&](Request& r) { seen.push_back(&r); });
  EXPECT_EQ(seen, (std::vector<const Request*>{&queued, &served}));
  (void)scheduler.finish(*block, kBlock);
  seen.clear();
  scheduler.for_each_outstanding([&](Request& r) { seen.push_back(&r); });
  EXPECT_EQ(seen, (std::vector<const Request*>{&queued}));
}

}  // namespace
}  // namespace strata::io
