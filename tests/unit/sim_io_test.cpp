#include "support/sim_io.hpp"

#include <cerrno>
#include <fstream>

#include <gtest/gtest.h>

#include "support/aligned_buffer.hpp"
#include "support/seed.hpp"
#include "support/temp_dir.hpp"

namespace strata::testing {
namespace {

using namespace literals;
using io::Op;

class SimIoTest : public ::testing::Test {
 protected:
  explicit SimIoTest(std::uint64_t seed = test_seed()) : disk_(seed) {
    open();
    file_ = *engine_->attach(disk_.create("file", 256_KiB));
  }

  void open() { engine_ = *open_sim_engine(disk_, {.queue_depth = 4, .block_size = 16_KiB}); }
  void restart() {
    engine_.reset();
    disk_.restart();
    open();
    file_ = *engine_->attach(disk_.open("file"));
  }
  Status write(std::uint64_t offset, std::uint64_t size, std::uint64_t version) {
    AlignedBuffer data(size);
    fill_pattern(data.bytes(), offset, version);
    return transfer(*engine_, Op::kWrite, file_, Offset(offset), data.data(), Bytes(size));
  }
  Status flush() { return transfer(*engine_, Op::kFlush, file_, Offset(0), nullptr, Bytes(0)); }
  bool holds(std::uint64_t offset, std::uint64_t size, std::uint64_t version) {
    const AlignedBuffer data(size);
    EXPECT_TRUE(transfer(*engine_, Op::kRead, file_, Offset(offset), data.data(), Bytes(size)));
    return has_pattern(data.bytes(), offset, version);
  }

  SimDisk disk_;
  std::unique_ptr<io::Engine> engine_;
  io::FileId file_;
};

TEST_F(SimIoTest, WhatAFlushCoversSurvivesEveryCrash) {
  for (std::uint64_t version = 1; version <= 20; ++version) {
    ASSERT_TRUE(write(0, 65536, version));
    ASSERT_TRUE(flush());
    ASSERT_TRUE(write(131072, 65536, version));
    disk_.crash();
    EXPECT_FALSE(write(0, 4096, 99));
    EXPECT_FALSE(flush());
    restart();
    EXPECT_TRUE(holds(0, 65536, version));
  }
}

TEST_F(SimIoTest, WhatNoFlushCoversIsLostOrTornNowAndThen) {
  int whole = 0;
  int none = 0;
  int torn = 0;
  for (std::uint64_t version = 1; version <= 60; ++version) {
    ASSERT_TRUE(write(0, 32768, 2 * version));
    ASSERT_TRUE(flush());
    ASSERT_TRUE(write(0, 32768, 2 * version + 1));
    EXPECT_TRUE(holds(0, 32768, 2 * version + 1)) << "readers see it before the crash";
    disk_.crash();
    restart();
    if (holds(0, 32768, 2 * version)) {
      ++none;
    } else if (holds(0, 32768, 2 * version + 1)) {
      ++whole;
    } else {
      ++torn;
    }
  }
  EXPECT_GT(whole, 0);
  EXPECT_GT(none, 0);
  EXPECT_GT(torn, 0);
}

TEST_F(SimIoTest, ALostFlushIsReportedAsDone) {
  int survived = 0;
  for (std::uint64_t version = 1; version <= 20; ++version) {
    disk_.set_faults({});
    ASSERT_TRUE(write(0, 32768, 0));
    ASSERT_TRUE(flush());
    disk_.set_faults({.lost_flush = 1});
    ASSERT_TRUE(write(0, 32768, version));
    ASSERT_TRUE(flush());
    disk_.crash();
    disk_.set_faults({});
    restart();
    survived += holds(0, 32768, version) ? 1 : 0;
  }
  EXPECT_LT(survived, 20);
}

TEST_F(SimIoTest, AFlushDoesNotCoverAWriteThatHadNotCompleted) {
  int survived = 0;
  for (std::uint64_t version = 1; version <= 20; ++version) {
    disk_.hold();
    AlignedBuffer data(32768);
    fill_pattern(data.bytes(), 0, version);
    io::Request write;
    write.op = Op::kWrite;
    write.file = file_;
    write.data = data.data();
    write.length = 32_KiB;
    engine_->submit(write);
    io::Request flush;
    flush.op = Op::kFlush;
    flush.file = file_;
    engine_->submit(flush);
    disk_.release();
    ASSERT_TRUE(wait(write));
    ASSERT_TRUE(wait(flush));
    disk_.crash();
    restart();
    survived += holds(0, 32768, version) ? 1 : 0;
  }
  EXPECT_LT(survived, 20);
}

TEST_F(SimIoTest, TheNthBlockFailsAsPlanned) {
  disk_.fail_nth(Op::kWrite, 3, ENOSPC);
  ASSERT_TRUE(write(0, 32768, 1));  // two blocks
  const Status full = write(32768, 16384, 1);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().os_errno, ENOSPC);
  EXPECT_TRUE(write(32768, 16384, 1));
  disk_.fail_nth(Op::kFlush, 1, EIO);
  EXPECT_FALSE(flush());
  EXPECT_TRUE(flush());
}

TEST_F(SimIoTest, PowerIsLostInTheMiddleOfTheNthWrite) {
  disk_.crash_at_write(2);
  ASSERT_TRUE(write(0, 16384, 1));
  EXPECT_FALSE(disk_.crashed());
  const Status lost = write(16384, 16384, 1);
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().os_errno, EIO);
  EXPECT_TRUE(disk_.crashed());
  restart();
  EXPECT_TRUE(write(0, 16384, 2));
}

TEST_F(SimIoTest, BitFlipsAndTornWritesAreSilent) {
  ASSERT_TRUE(write(0, 16384, 1));
  disk_.flip_bit("file", Offset(5000), 3);
  EXPECT_FALSE(holds(0, 16384, 1));
  disk_.flip_bit("file", Offset(5000), 3);
  EXPECT_TRUE(holds(0, 16384, 1));
  disk_.set_faults({.read_bit_flip = 1});
  EXPECT_FALSE(holds(0, 16384, 1));
  disk_.set_faults({});
  EXPECT_TRUE(holds(0, 16384, 1)) << "the disk keeps the right bits";
  disk_.set_faults({.torn_write = 1});
  ASSERT_TRUE(write(0, 16384, 2));
  EXPECT_FALSE(holds(0, 16384, 2));
}

TEST_F(SimIoTest, ErrorRatesReachTheOwner) {
  disk_.set_faults({.read_error = 1, .write_error = 1, .flush_error = 1});
  EXPECT_FALSE(write(0, 4096, 1));
  EXPECT_FALSE(flush());
  const AlignedBuffer data(4096);
  EXPECT_FALSE(transfer(*engine_, Op::kRead, file_, Offset(0), data.data(), 4_KiB));
  EXPECT_EQ(engine_->stats().errors, 3u);
}

TEST(SimDiskTest, EqualSeedsGiveEqualSurvivors) {
  const std::uint64_t seed = test_seed();
  std::vector<std::byte> survivors[2];
  for (auto& survivor : survivors) {
    SimDisk disk(seed);
    disk.set_faults({.short_transfer = 0.3, .interrupted = 0.3, .torn_write = 0.3});
    {
      auto engine = *open_sim_engine(disk, {.queue_depth = 1, .block_size = 4_KiB});
      const io::FileId id = *engine->attach(disk.create("file", 64_KiB));
      AlignedBuffer data(65536);
      fill_pattern(data.bytes(), 0, 1);
      ASSERT_TRUE(transfer(*engine, Op::kWrite, id, Offset(0), data.data(), 64_KiB));
      disk.crash();
    }
    survivor = disk.contents("file");
  }
  EXPECT_EQ(survivors[0], survivors[1]);
}

TEST(SimDiskTest, ARealFileIsTakenOver) {
  const TempDir dir;
  AlignedBuffer data(8192);
  fill_pattern(data.bytes(), 0, 4);
  std::ofstream(dir.path() / "real", std::ios::binary)
      .write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size()));
  SimDisk disk(1);
  auto engine = *open_sim_engine(disk, {});
  auto file = io::open_file(dir.path() / "real", {});
  ASSERT_TRUE(file);
  const io::FileId id = *engine->attach(*std::move(file));
  const AlignedBuffer back(8192);
  ASSERT_TRUE(transfer(*engine, Op::kRead, id, Offset(0), back.data(), 8_KiB));
  EXPECT_TRUE(has_pattern(back.bytes(), 0, 4));
}

}  // namespace
}  // namespace strata::testing
