#include "io/transfer_progress.hpp"

#include <gtest/gtest.h>

namespace strata::io {
namespace {

TEST(TransferProgressTest, EveryErrnoButTwoFails) {
  for (const Op op : {Op::kRead, Op::kWrite, Op::kFlush}) {
    for (int os_errno = 1; os_errno < 4096; ++os_errno) {
      const Judgement judged = judge(op, -os_errno, 65536);
      const bool again = os_errno == EINTR || os_errno == EAGAIN;
      EXPECT_EQ(judged.progress, again ? Progress::kRetry : Progress::kFail) << os_errno;
      EXPECT_EQ(judged.os_errno, os_errno);
      EXPECT_EQ(judged.advance, 0u);
    }
  }
}

TEST(TransferProgressTest, NoBytesAreTheEndOfTheFile) {
  for (const Op op : {Op::kRead, Op::kWrite}) {
    const Judgement judged = judge(op, 0, 4096);
    EXPECT_EQ(judged.progress, Progress::kFail);
    EXPECT_EQ(judged.os_errno, 0);
  }
}

TEST(TransferProgressTest, NoBytesOfNoneAreWhole) {
  EXPECT_EQ(judge(Op::kRead, 0, 0).progress, Progress::kWhole);
  EXPECT_EQ(judge(Op::kFlush, 0, 0).progress, Progress::kWhole);
  EXPECT_EQ(judge(Op::kFlush, 0, 4096).progress, Progress::kWhole) << "a flush ignores the length";
}

TEST(TransferProgressTest, MoreBytesThanAskedForFail) {
  EXPECT_EQ(judge(Op::kRead, 4097, 4096).progress, Progress::kFail);
  EXPECT_EQ(judge(Op::kFlush, 1, 4096).progress, Progress::kFail);
  EXPECT_NE(judge(Op::kFlush, 1, 0).os_errno, 0);
}

TEST(TransferProgressTest, EveryShortResultResumesAtTheLastAlignedByte) {
  constexpr std::int64_t kLength = 4 * 4096;
  for (std::int64_t moved = 1; moved <= kLength; ++moved) {
    const Judgement judged = judge(Op::kWrite, moved, kLength);
    if (moved == kLength) {
      EXPECT_EQ(judged.progress, Progress::kWhole);
      EXPECT_EQ(judged.advance, static_cast<std::uint64_t>(kLength));
    } else if (moved < 4096) {
      EXPECT_EQ(judged.progress, Progress::kRetry);
      EXPECT_EQ(judged.advance, 0u);
    } else {
      EXPECT_EQ(judged.progress, Progress::kResume);
      EXPECT_EQ(judged.advance, static_cast<std::uint64_t>(moved / 4096 * 4096));
    }
  }
}

}  // namespace
}  // namespace strata::io
