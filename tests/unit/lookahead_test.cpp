// What is fetched ahead, in which order, and at whose cost. The scripted engine shows every request.
#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/tier_world.hpp"
#include "tiers/tier_manager.hpp"

namespace strata::tiers {
namespace {

using testing::TierWorld;
using testing::WorldOptions;
using namespace literals;

constexpr ObjectId kA{0};
constexpr ObjectId kB{1};
constexpr ObjectId kC{2};
constexpr ObjectId kD{3};

/// Objects of 64 KiB on disk, written and dropped from memory; a pool of `room` of them.
class LookaheadTest : public ::testing::Test {
 protected:
  void open(std::uint64_t room, std::uint32_t count, device::Addressing addressing = device::Addressing::kShared) {
    std::vector<ObjectSpec> specs;
    for (std::uint32_t i = 0; i < count; ++i) {
      specs.push_back({.name = std::string(1, static_cast<char>('a' + i)),
                       .kind = Kind::kParameter,
                       .bytes = 64_KiB,
                       .home = Tier::kDisk,
                       .backing = Backing::kStore,
                       .store_id = {}});
    }
    world_.emplace(WorldOptions{.addressing = addressing,
                                .device_pool = room * 64_KiB,
                                .host_budget = room * 64_KiB,
                                .engine = WorldOptions::Engine::kScripted},
                   specs);
    for (std::uint32_t i = 0; i < count; ++i) testing::put(manager(), ObjectId(i), Tier::kHost, i);
    ASSERT_TRUE(manager().flush());
    for (std::uint32_t i = 0; i < count; ++i) manager().discard(ObjectId(i));
  }

  TierManager& manager() { return world_->manager(); }
  std::uint64_t reads() { return world_->scripted().submitted(io::Op::kRead); }
  void look_ahead(Tier tier, std::vector<ObjectId> upcoming) { manager().set_lookahead(tier, upcoming); }

  std::optional<TierWorld> world_;
};

TEST_F(LookaheadTest, FetchesInOrderAsFarAsRoomAllowsAndNoFurther) {
  open(2, 4);
  look_ahead(Tier::kHost, {kC, kA, kB, kD});
  EXPECT_EQ(reads(), 2u);
  testing::expect_holds(manager(), kC, Tier::kHost, 2);
  testing::expect_holds(manager(), kA, Tier::kHost, 0);
  EXPECT_EQ(reads(), 2u) << "listed copies are not evicted for those behind them";
  look_ahead(Tier::kHost, {kA, kB});
  EXPECT_EQ(reads(), 3u) << "c left the list, so its room goes to b";
  testing::expect_holds(manager(), kB, Tier::kHost, 1);
  testing::expect_holds(manager(), kA, Tier::kHost, 0);
  EXPECT_EQ(reads(), 3u);
  EXPECT_EQ(manager().stats().wasted_bytes, 0u);
}

TEST_F(LookaheadTest, RoomThatALeaseGivesBackIsUsedAtOnce) {
  open(1, 2);
  {
    const auto a = manager().read(kA, Tier::kHost).value();
    look_ahead(Tier::kHost, {kB});
    EXPECT_EQ(reads(), 1u);
  }
  EXPECT_EQ(reads(), 2u) << "the end of the lease starts the fetch";
}

TEST_F(LookaheadTest, EvictsTheLeastRecentlyUsedUnlistedCopyFirst) {
  open(3, 4);
  for (const ObjectId id : {kB, kA, kC, kB}) testing::expect_holds(manager(), id, Tier::kHost, id.value);
  look_ahead(Tier::kHost, {kD});
  testing::expect_holds(manager(), kD, Tier::kHost, 3);
  EXPECT_EQ(reads(), 4u);
  testing::expect_holds(manager(), kB, Tier::kHost, 1);
  testing::expect_holds(manager(), kC, Tier::kHost, 2);
  EXPECT_EQ(reads(), 4u) << "a was the least recently used";
}

TEST_F(LookaheadTest, DemandTakesTheCopyThatIsNeededLast) {
  open(2, 3);
  look_ahead(Tier::kHost, {kA, kB});
  for (const ObjectId id : {kA, kB}) testing::expect_holds(manager(), id, Tier::kHost, id.value);
  const auto c = manager().read(kC, Tier::kHost).value();
  EXPECT_EQ(reads(), 3u);
  testing::expect_holds(manager(), kA, Tier::kHost, 0);
  EXPECT_EQ(reads(), 3u) << "b had to go, because a is needed first";
}

TEST_F(LookaheadTest, RoomThatAppearsGoesToTheWaitingDemandFirst) {
  open(1, 3);
  world_->scripted().hold(io::Op::kWrite);
  testing::put(manager(), kA, Tier::kHost, 9);
  look_ahead(Tier::kHost, {kB});
  const std::uint64_t waited = manager().stats().stall_no_room_ns;
  std::thread demand([&] { testing::expect_holds(manager(), kC, Tier::kHost, 2); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // let it stand in line
  world_->scripted().release(io::Op::kWrite);
  demand.join();
  EXPECT_GT(manager().stats().stall_no_room_ns, waited);
  EXPECT_EQ(manager().stats().wasted_bytes, 0u) << "b was fetched first, and dropped for c";
  testing::expect_holds(manager(), kB, Tier::kHost, 1);
}

TEST_F(LookaheadTest, DemandEvictsWhatWasFetchedAheadForNobody) {
  open(1, 3);
  world_->scripted().hold(io::Op::kRead);
  look_ahead(Tier::kHost, {kA, kB});
  ASSERT_TRUE(world_->scripted().wait_submitted(io::Op::kRead, 1));
  const std::uint64_t late = manager().stats().late_count;
  std::thread demand([&] { testing::expect_holds(manager(), kC, Tier::kHost, 2); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // let it stand in line
  world_->scripted().release(io::Op::kRead);
  demand.join();
  const TierStats stats = manager().stats();
  EXPECT_GT(stats.stall_no_room_ns, 0u);
  EXPECT_EQ(stats.late_count, late + 1);
  EXPECT_EQ(stats.wasted_bytes, 65536u);
  EXPECT_LE(manager().budget(Tier::kHost).use().peak, 64_KiB);
}

TEST_F(LookaheadTest, LeaseWaitsForTheFetchInFlightInsteadOfASecondOne) {
  open(2, 2);
  world_->scripted().hold(io::Op::kRead);
  look_ahead(Tier::kHost, {kA});
  std::array<std::thread, 2> readers;
  for (auto& reader : readers) reader = std::thread([&] { testing::expect_holds(manager(), kA, Tier::kHost, 0); });
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  world_->scripted().release(io::Op::kRead);
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(reads(), 1u);
  EXPECT_GT(manager().stats().stall_late_ns[static_cast<std::size_t>(Lane::kDiskRead)], 0u);
}

TEST_F(LookaheadTest, SeparateDeviceFetchesAheadThroughStaging) {
  open(2, 3, device::Addressing::kSeparate);
  look_ahead(Tier::kDevice, {kA, kB, kC});
  for (const ObjectId id : {kA, kB}) testing::expect_holds(manager(), id, Tier::kDevice, id.value);
  EXPECT_EQ(reads(), 2u);
  EXPECT_LE(manager().budget(Tier::kHost).use().peak, 128_KiB);
}

TEST_F(LookaheadTest, SkipsWhatIsBeingWrittenAndFetchesTheRest) {
  open(3, 3);
  auto a = manager().write(kA, Tier::kHost, Content::kOverwrite).value();
  look_ahead(Tier::kDevice, {kA, kB});
  EXPECT_EQ(reads(), 1u);
  testing::fill(a.bytes(), 7);
  a.release();
  testing::expect_holds(manager(), kA, Tier::kDevice, 7);
  testing::expect_holds(manager(), kB, Tier::kDevice, 1);
  EXPECT_EQ(reads(), 1u) << "a came from its copy in host memory";
}

TEST_F(LookaheadTest, RefetchInOneCycleIsCounted) {
  open(1, 2);
  look_ahead(Tier::kHost, {kA});
  testing::expect_holds(manager(), kA, Tier::kHost, 0);
  testing::expect_holds(manager(), kB, Tier::kHost, 1);  // evicts a; the end of this lease fetches a again
  testing::expect_holds(manager(), kA, Tier::kHost, 0);
  EXPECT_EQ(manager().stats().refetched_bytes, 65536u);
}

TEST_F(LookaheadTest, WriteBackAndFetchAreInFlightTogether) {
  open(2, 2);
  world_->scripted().hold(io::Op::kWrite);
  world_->scripted().hold(io::Op::kRead);
  testing::put(manager(), kA, Tier::kHost, 9);
  look_ahead(Tier::kHost, {kB});
  EXPECT_TRUE(world_->scripted().wait_submitted(io::Op::kWrite, 3));
  EXPECT_TRUE(world_->scripted().wait_submitted(io::Op::kRead, 1));
  testing::expect_holds(manager(), kA, Tier::kHost, 9);  // readable while it is on its way
  world_->scripted().release(io::Op::kRead);
  testing::expect_holds(manager(), kB, Tier::kHost, 1);
  world_->scripted().release(io::Op::kWrite);
  EXPECT_TRUE(manager().flush());
}

TEST_F(LookaheadTest, ExtentIsNotUsedAgainBeforeItsWriteCompleted) {
  open(1, 2);
  world_->scripted().hold(io::Op::kWrite);
  testing::put(manager(), kA, Tier::kHost, 9);
  std::thread demand([&] { testing::expect_holds(manager(), kB, Tier::kHost, 1); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(reads(), 0u);
  world_->scripted().release(io::Op::kWrite);
  demand.join();
  testing::expect_holds(manager(), kA, Tier::kHost, 9);
}

}  // namespace
}  // namespace strata::tiers
