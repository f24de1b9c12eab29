// I/O errors under the tier manager: who hears of them, and that nobody reads the bytes.
#include <atomic>
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/tier_world.hpp"
#include "tiers/tier_manager.hpp"

namespace strata::tiers {
namespace {

using device::Addressing;
using testing::TierWorld;
using testing::WorldOptions;
using namespace literals;

constexpr ObjectId kDisk{0};
constexpr ObjectId kHost{1};
constexpr ObjectId kOther{2};

class TierManagerFaultTest : public ::testing::TestWithParam<Addressing> {
 protected:
  TierManagerFaultTest()
      : world_({.addressing = GetParam(),
                .device_pool = 256_KiB,
                .host_budget = 320_KiB,
                .engine = WorldOptions::Engine::kScripted},
               {object("disk", Tier::kDisk), object("host", Tier::kHost), object("other", Tier::kDisk)}) {
    for (const ObjectId id : {kDisk, kHost, kOther}) testing::put(manager(), id, Tier::kHost, id.value);
    EXPECT_TRUE(manager().flush());
    for (const ObjectId id : {kDisk, kOther}) manager().discard(id);
  }

  static ObjectSpec object(std::string name, Tier home) {
    return {.name = std::move(name),
            .kind = Kind::kOptimizer,
            .bytes = 64_KiB,
            .home = home,
            .backing = Backing::kStore,
            .store_id = {}};
  }

  TierManager& manager() { return world_.manager(); }
  Bytes used(Tier tier) { return manager().budget(tier).use().used; }

  TierWorld world_;
};
INSTANTIATE_TEST_SUITE_P(Devices, TierManagerFaultTest, ::testing::Values(Addressing::kShared, Addressing::kSeparate),
                         [](const auto& test) { return test.param == Addressing::kShared ? "Shared" : "Separate"; });

TEST_P(TierManagerFaultTest, FailedFetchReachesItsWaitersAndGivesItsRoomBack) {
  world_.scripted().hold(io::Op::kRead);
  world_.scripted().fail_next(io::Op::kRead);
  std::atomic<int> failed{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      const auto lease = manager().read(kDisk, Tier::kDevice);
      if (lease) {  // came too late for the first fetch, and made another
        EXPECT_TRUE(testing::holds(lease->bytes(), 0));
        return;
      }
      EXPECT_EQ(lease.error().code, ErrorCode::kIo);
      EXPECT_EQ(lease.error().os_errno, EIO);
      ++failed;
    });
  }
  ASSERT_TRUE(world_.scripted().wait_submitted(io::Op::kRead, 1));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  world_.scripted().release(io::Op::kRead);
  for (auto& reader : readers) reader.join();
  EXPECT_GE(failed.load(), 1);
  manager().drop_unleased(Tier::kDevice);
  EXPECT_EQ(used(Tier::kDevice), 0_B);
  EXPECT_EQ(used(Tier::kHost), 64_KiB) << "the host home alone";
  testing::expect_holds(manager(), kOther, Tier::kDevice, 2);
}

TEST_P(TierManagerFaultTest, TheLeaseAfterAFailedFetchTriesAgain) {
  for (int i = 0; i < 2; ++i) {
    world_.scripted().fail_next(io::Op::kRead);
    EXPECT_FALSE(manager().read(kDisk, Tier::kHost));
    world_.scripted().fail_next(io::Op::kRead);
    EXPECT_FALSE(manager().write(kDisk, Tier::kHost, Content::kKeep));
  }
  testing::expect_holds(manager(), kDisk, Tier::kHost, 0);
}

TEST_P(TierManagerFaultTest, FailedFetchAheadIsLeftToTheLease) {
  world_.scripted().fail_next(io::Op::kRead);
  const std::vector<ObjectId> upcoming{kDisk, kOther};
  const std::uint64_t before = world_.scripted().submitted(io::Op::kRead);
  manager().set_lookahead(Tier::kHost, upcoming);
  testing::expect_holds(manager(), kOther, Tier::kHost, 2);
  EXPECT_EQ(world_.scripted().submitted(io::Op::kRead), before + 2) << "a bad block is not hammered";
  testing::expect_holds(manager(), kDisk, Tier::kHost, 0);
}

TEST_P(TierManagerFaultTest, FailedWriteBackReachesFlushOnceAndEveryLaterLease) {
  world_.scripted().fail_next(io::Op::kWrite);
  testing::put(manager(), kDisk, Tier::kDevice, 9);
  const Status flushed = manager().flush();
  ASSERT_FALSE(flushed);
  EXPECT_EQ(flushed.error().os_errno, EIO);
  EXPECT_TRUE(manager().flush()) << "reported once";
  for (int i = 0; i < 2; ++i) {
    EXPECT_FALSE(manager().read(kDisk, Tier::kHost));
    EXPECT_FALSE(manager().write(kDisk, Tier::kHost, Content::kOverwrite));
  }
  testing::expect_holds(manager(), kOther, Tier::kHost, 2);
  manager().discard(kDisk);  // gives the version up
  testing::put(manager(), kDisk, Tier::kDevice, 10);
  ASSERT_TRUE(manager().flush());
  testing::expect_holds(manager(), kDisk, Tier::kHost, 10);
}

TEST_P(TierManagerFaultTest, ReaderOfACopyKeepsItsBytesWhenTheWriteBackFails) {
  world_.scripted().hold(io::Op::kWrite);
  world_.scripted().fail_next(io::Op::kWrite);
  testing::put(manager(), kDisk, Tier::kDevice, 9);
  auto lease = manager().read(kDisk, Tier::kDevice).value();
  world_.scripted().release(io::Op::kWrite);
  EXPECT_FALSE(manager().flush());
  EXPECT_TRUE(testing::holds(lease.bytes(), 9));
  lease.release();
  EXPECT_FALSE(manager().read(kDisk, Tier::kDevice));
}

TEST_P(TierManagerFaultTest, FailedSnapshotAndRestoreAreReported) {
  world_.scripted().fail_next(io::Op::kWrite);
  ASSERT_TRUE(manager().snapshot(kHost));
  EXPECT_FALSE(manager().flush());
  EXPECT_FALSE(manager().snapshot(kHost));
  EXPECT_FALSE(manager().read(kHost, Tier::kHost));
}

TEST_P(TierManagerFaultTest, FailedRestoreIsReturned) {
  ASSERT_TRUE(manager().snapshot(kHost));
  ASSERT_TRUE(manager().flush());
  world_.scripted().fail_next(io::Op::kRead);
  const Status restored = manager().restore(kHost);
  ASSERT_FALSE(restored);
  EXPECT_EQ(restored.error().os_errno, EIO);
  EXPECT_FALSE(manager().read(kHost, Tier::kHost)) << "half of it may have arrived";
  ASSERT_TRUE(manager().restore(kHost));
  testing::expect_holds(manager(), kHost, Tier::kHost, 1);
}

TEST_P(TierManagerFaultTest, RestoreForgetsAFailedSnapshot) {
  ASSERT_TRUE(manager().snapshot(kHost));
  ASSERT_TRUE(manager().flush());
  ASSERT_TRUE(world_.store().commit(1, "{}"));
  ASSERT_TRUE(world_.store().wait_durable());
  testing::put(manager(), kHost, Tier::kHost, 7);
  world_.scripted().fail_next(io::Op::kWrite);
  ASSERT_TRUE(manager().snapshot(kHost));
  EXPECT_FALSE(manager().flush());
  ASSERT_TRUE(world_.store().roll_back());
  ASSERT_TRUE(manager().restore(kHost));
  testing::expect_holds(manager(), kHost, Tier::kHost, 1);
  ASSERT_TRUE(manager().snapshot(kHost));
  EXPECT_TRUE(manager().flush());
}

TEST_P(TierManagerFaultTest, DropUnleasedWaitsForWhatIsInFlightAndKeepsLeases) {
  auto leased = manager().read(kOther, Tier::kDevice).value();
  world_.scripted().hold(io::Op::kWrite);
  testing::put(manager(), kDisk, Tier::kDevice, 9);
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    world_.scripted().release(io::Op::kWrite);
  });
  manager().drop_unleased(Tier::kDevice);
  later.join();
  EXPECT_EQ(used(Tier::kDevice), 64_KiB);
  EXPECT_TRUE(testing::holds(leased.bytes(), 2));
  testing::expect_holds(manager(), kDisk, Tier::kDevice, 9);
}

TEST_P(TierManagerFaultTest, WriteLeaseWaitsForTheSnapshotInFlight) {
  world_.scripted().hold(io::Op::kWrite);
  ASSERT_TRUE(manager().snapshot(kHost));
  testing::expect_holds(manager(), kHost, Tier::kHost, 1);
  std::atomic<bool> written{false};
  std::thread writer([&] {
    testing::put(manager(), kHost, Tier::kHost, 5);
    written.store(true);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(written.load());
  world_.scripted().release(io::Op::kWrite);
  writer.join();
  ASSERT_TRUE(manager().flush());
  ASSERT_TRUE(manager().restore(kHost));
  testing::expect_holds(manager(), kHost, Tier::kHost, 1);
}

TEST_P(TierManagerFaultTest, DiscardDuringAWriteBackTakesEffectAtItsEnd) {
  world_.scripted().hold(io::Op::kWrite);
  testing::put(manager(), kDisk, Tier::kHost, 9);
  manager().discard(kDisk);
  EXPECT_EQ(used(Tier::kHost), 128_KiB) << "the write still needs the bytes";
  world_.scripted().release(io::Op::kWrite);
  ASSERT_TRUE(manager().flush());
  EXPECT_EQ(used(Tier::kHost), 64_KiB);
  testing::expect_holds(manager(), kDisk, Tier::kHost, 9);
}

TEST_P(TierManagerFaultTest, CommitInFlightHoldsUpTheWriterOfItsSlotAndNobodyElse) {
  testing::put(manager(), kDisk, Tier::kHost, 5);
  ASSERT_TRUE(manager().flush());
  ASSERT_TRUE(world_.store().commit(1, "{}"));
  ASSERT_TRUE(world_.store().wait_durable());
  testing::put(manager(), kDisk, Tier::kHost, 6);
  ASSERT_TRUE(manager().flush());
  world_.scripted().hold(io::Op::kFlush);
  ASSERT_TRUE(world_.store().commit(2, "{}"));
  std::atomic<bool> ended{false};
  std::thread writer([&] {
    testing::put(manager(), kDisk, Tier::kHost, 7);  // into the slot of step 1, which step 2 still needs
    ended.store(true);
  });
  // Others go on: reads of other objects, with I/O, and of the very version that waits for its slot.
  testing::expect_holds(manager(), kOther, Tier::kDevice, 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(ended.load());
  testing::expect_holds(manager(), kDisk, Tier::kHost, 7);
  world_.scripted().release(io::Op::kFlush);
  writer.join();
  EXPECT_TRUE(manager().flush());
  EXPECT_TRUE(world_.store().wait_durable());
  manager().discard(kDisk);
  testing::expect_holds(manager(), kDisk, Tier::kDevice, 7);
}

TEST_P(TierManagerFaultTest, DestructorWaitsForTransfersInFlight) {
  world_.scripted().hold(io::Op::kWrite);
  testing::put(manager(), kDisk, Tier::kDevice, 9);
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    world_.scripted().release(io::Op::kWrite);
  });
  world_.reopen_manager();
  later.join();
  testing::expect_holds(manager(), kDisk, Tier::kHost, 9);
}

}  // namespace
}  // namespace strata::tiers
