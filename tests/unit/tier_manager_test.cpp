#include "tiers/tier_manager.hpp"

#include <chrono>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/tier_world.hpp"

namespace strata::tiers {
namespace {

using device::Addressing;
using testing::TierWorld;
using testing::WorldOptions;
using namespace literals;

ObjectSpec spec(std::string name, Bytes bytes, Tier home, Backing backing) {
  return {.name = std::move(name),
          .kind = Kind::kParameter,
          .bytes = bytes,
          .home = home,
          .backing = backing,
          .store_id = {}};
}

std::uint64_t lane_bytes(TierManager& manager, Lane lane) {
  return manager.stats().bytes[static_cast<std::size_t>(lane)];
}

constexpr ObjectId kFirst{0};
constexpr ObjectId kSecond{1};

class TierManagerBothTest : public ::testing::TestWithParam<Addressing> {};
INSTANTIATE_TEST_SUITE_P(Devices, TierManagerBothTest, ::testing::Values(Addressing::kShared, Addressing::kSeparate),
                         [](const auto& test) { return test.param == Addressing::kShared ? "Shared" : "Separate"; });

TEST_P(TierManagerBothTest, EveryHomeKeepsItsBytesThroughEveryTier) {
  TierWorld world(
      {.addressing = GetParam()},
      {spec("device", 100_KiB, Tier::kDevice, Backing::kNone), spec("host", 70001_B, Tier::kHost, Backing::kNone),
       spec("stored", 70001_B, Tier::kDisk, Backing::kStore), spec("scratch", 64_KiB, Tier::kDisk, Backing::kScratch)});
  std::uint64_t version = 0;
  for (const Tier writer : {Tier::kHost, Tier::kDevice}) {
    for (std::uint32_t i = 0; i < 4; ++i) {
      testing::put(world.manager(), ObjectId(i), writer, ++version);
      for (const Tier reader : {Tier::kDevice, Tier::kHost}) {
        testing::expect_holds(world.manager(), ObjectId(i), reader, version);
      }
      const Tier other = writer == Tier::kHost ? Tier::kDevice : Tier::kHost;
      auto lease = world.manager().write(ObjectId(i), other, Content::kKeep);
      ASSERT_TRUE(lease) << to_string(lease.error());
      EXPECT_TRUE(testing::holds(lease->bytes(), version));
      testing::fill(lease->bytes(), ++version);
      lease->release();
      testing::expect_holds(world.manager(), ObjectId(i), writer, version);
    }
  }
  EXPECT_TRUE(world.manager().flush());
}

TEST_P(TierManagerBothTest, ReadBeforeAnyWriteIsAnError) {
  TierWorld world({.addressing = GetParam()}, {spec("stored", 4_KiB, Tier::kDisk, Backing::kStore),
                                               spec("scratch", 4_KiB, Tier::kDisk, Backing::kScratch),
                                               spec("host", 4_KiB, Tier::kHost, Backing::kNone)});
  const ErrorCode expected[] = {ErrorCode::kStore, ErrorCode::kInternal, ErrorCode::kInternal};
  for (std::uint32_t i = 0; i < 3; ++i) {
    const auto read = world.manager().read(ObjectId(i), Tier::kDevice);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, expected[i]);
    EXPECT_NE(read.error().message.find(world.manager().objects()[i].name), std::string::npos);
    EXPECT_FALSE(world.manager().write(ObjectId(i), Tier::kHost, Content::kKeep));
    testing::put(world.manager(), ObjectId(i), Tier::kHost, 1);
    testing::expect_holds(world.manager(), ObjectId(i), Tier::kDevice, 1);
  }
}

TEST(TierManagerTest, SharedDeviceComputesOnAHostHomeInPlace) {
  TierWorld world({.addressing = Addressing::kShared}, {spec("host", 64_KiB, Tier::kHost, Backing::kNone)});
  testing::put(world.manager(), kFirst, Tier::kDevice, 3);
  const auto near = world.manager().read(kFirst, Tier::kDevice).value();
  const auto home = world.manager().read(kFirst, Tier::kHost).value();
  EXPECT_EQ(near.bytes().data(), home.bytes().data());
  EXPECT_EQ(world.manager().budget(Tier::kDevice).use().peak, 0_B);
  for (std::size_t lane = 0; lane < kLaneCount; ++lane) EXPECT_EQ(world.manager().stats().bytes[lane], 0u);
}

TEST(TierManagerTest, SharedDeviceReadsTheDiskStraightIntoItsPool) {
  TierWorld world({.addressing = Addressing::kShared, .host_budget = 0_B},
                  {spec("stored", 70001_B, Tier::kDisk, Backing::kStore)});
  testing::put(world.manager(), kFirst, Tier::kDevice, 4);
  ASSERT_TRUE(world.manager().flush());
  world.reopen_manager();
  const auto lease = world.manager().read(kFirst, Tier::kDevice).value();
  EXPECT_TRUE(testing::holds(lease.bytes(), 4));
  EXPECT_GE(lease.bytes().data(), world.device().arena());
  EXPECT_LT(lease.bytes().data(), world.device().arena() + world.device().arena_size().value);
  EXPECT_EQ(lane_bytes(world.manager(), Lane::kDiskRead), 70001u);
  EXPECT_EQ(lane_bytes(world.manager(), Lane::kHostToDevice), 0u);
}

TEST(TierManagerTest, SeparateDeviceStagesThroughTheHostAndGivesTheRoomBack) {
  TierWorld world({.addressing = Addressing::kSeparate}, {spec("stored", 64_KiB, Tier::kDisk, Backing::kStore)});
  testing::put(world.manager(), kFirst, Tier::kDevice, 5);
  ASSERT_TRUE(world.manager().flush());
  EXPECT_EQ(lane_bytes(world.manager(), Lane::kDeviceToHost), 65536u);
  EXPECT_EQ(lane_bytes(world.manager(), Lane::kDiskWrite), 65536u);
  world.manager().discard(kFirst);
  testing::expect_holds(world.manager(), kFirst, Tier::kDevice, 5);
  EXPECT_EQ(lane_bytes(world.manager(), Lane::kDiskRead), 65536u);
  EXPECT_EQ(lane_bytes(world.manager(), Lane::kHostToDevice), 65536u);
  const BudgetUse host = world.manager().budget(Tier::kHost).use();
  EXPECT_EQ(host.used, 0_B);
  EXPECT_EQ(host.peak, 64_KiB);
}

TEST(TierManagerTest, CleanCopyIsReadAgainWithoutATransfer) {
  TierWorld world({}, {spec("stored", 64_KiB, Tier::kDisk, Backing::kStore)});
  testing::put(world.manager(), kFirst, Tier::kHost, 6);
  ASSERT_TRUE(world.manager().flush());
  for (int i = 0; i < 3; ++i) testing::expect_holds(world.manager(), kFirst, Tier::kHost, 6);
  EXPECT_EQ(lane_bytes(world.manager(), Lane::kDiskRead), 0u);
}

TEST(TierManagerTest, CreateRefusesHomesThatDoNotFitAndNamesTheChange) {
  const auto device = device::open_host_device({.memory = 1_MiB}).value();
  const std::vector<ObjectSpec> objects{spec("a", 600_KiB, Tier::kHost, Backing::kNone),
                                        spec("b", 600_KiB, Tier::kHost, Backing::kNone)};
  const auto manager =
      TierManager::create({.device_pool = 1_MiB, .host_budget = 1_MiB}, objects, *device, nullptr, nullptr);
  ASSERT_FALSE(manager);
  EXPECT_EQ(manager.error().code, ErrorCode::kDoesNotFit);
  EXPECT_NE(manager.error().message.find("host"), std::string::npos);
  EXPECT_NE(manager.error().message.find("1228800"), std::string::npos) << manager.error().message;
  EXPECT_NE(manager.error().message.find("1048576"), std::string::npos) << manager.error().message;
  EXPECT_NE(manager.error().hint.find("176 KiB"), std::string::npos) << manager.error().hint;
  EXPECT_EQ(TierManager::create({.device_pool = 2_MiB, .host_budget = 0_B}, {}, *device, nullptr, nullptr).error().code,
            ErrorCode::kDoesNotFit);
}

TEST(TierManagerTest, DemandThatNothingMakesRoomForNamesTheHolders) {
  TierWorld world({.device_pool = 128_KiB},
                  {spec("one", 64_KiB, Tier::kDisk, Backing::kStore), spec("two", 64_KiB, Tier::kDisk, Backing::kStore),
                   spec("three", 64_KiB, Tier::kDisk, Backing::kStore)});
  for (std::uint32_t i = 0; i < 3; ++i) testing::put(world.manager(), ObjectId(i), Tier::kDevice, i);
  ASSERT_TRUE(world.manager().flush());
  auto one = world.manager().read(ObjectId(0), Tier::kDevice).value();
  const auto two = world.manager().read(ObjectId(1), Tier::kDevice).value();
  const auto three = world.manager().read(ObjectId(2), Tier::kDevice);
  ASSERT_FALSE(three);
  EXPECT_EQ(three.error().code, ErrorCode::kDoesNotFit);
  for (const char* part : {"device", "'three'", "'one'", "'two'", "65536"}) {
    EXPECT_NE(three.error().message.find(part), std::string::npos) << three.error().message;
  }
  one.release();
  testing::expect_holds(world.manager(), ObjectId(2), Tier::kDevice, 2);
  EXPECT_LE(world.manager().budget(Tier::kDevice).use().peak, 128_KiB);
}

TEST(TierManagerTest, AbandonedWriteLeavesTheOldBytesOnDiskAndNoneInMemory) {
  TierWorld world(
      {}, {spec("stored", 64_KiB, Tier::kDisk, Backing::kStore), spec("host", 64_KiB, Tier::kHost, Backing::kNone)});
  for (const ObjectId id : {kFirst, kSecond}) {
    testing::put(world.manager(), id, Tier::kHost, 1);
    auto lease = world.manager().write(id, Tier::kHost, Content::kKeep).value();
    testing::fill(lease.bytes(), 2);
    lease.abandon();
    EXPECT_FALSE(lease);
  }
  testing::expect_holds(world.manager(), kFirst, Tier::kHost, 1);
  EXPECT_FALSE(world.manager().read(kSecond, Tier::kHost)) << "half-written bytes must not be read";
  testing::put(world.manager(), kSecond, Tier::kHost, 3);
  testing::expect_holds(world.manager(), kSecond, Tier::kHost, 3);
}

TEST(TierManagerTest, PaddingThatReachesTheDiskIsZero) {
  TierWorld world({.host_budget = 4_KiB}, {spec("large", 4_KiB, Tier::kDisk, Backing::kStore),
                                           spec("small", 17_B, Tier::kDisk, Backing::kStore)});
  testing::put(world.manager(), kFirst, Tier::kHost, 1);
  testing::put(world.manager(), kSecond, Tier::kHost, 2);  // in the same extent
  const auto lease = world.manager().read(kSecond, Tier::kHost).value();
  const std::span<const std::byte> extent(lease.bytes().data(), 4096);
  EXPECT_TRUE(testing::holds(lease.bytes(), 2));
  for (std::size_t i = 17; i < extent.size(); ++i) ASSERT_EQ(extent[i], std::byte{0}) << i;
}

TEST(TierManagerTest, DiscardForgetsScratchAndKeepsWhatTheStoreHas) {
  TierWorld world({}, {spec("stored", 64_KiB, Tier::kDisk, Backing::kStore),
                       spec("scratch", 64_KiB, Tier::kDisk, Backing::kScratch)});
  for (const ObjectId id : {kFirst, kSecond}) {
    testing::put(world.manager(), id, Tier::kHost, 1);
    world.manager().discard(id);
  }
  testing::expect_holds(world.manager(), kFirst, Tier::kHost, 1);
  EXPECT_FALSE(world.manager().read(kSecond, Tier::kHost));
  EXPECT_EQ(world.manager().budget(Tier::kHost).use().used, 64_KiB);
}

TEST(TierManagerTest, DiscardAfterARollBackShowsTheCommittedVersion) {
  TierWorld world({}, {spec("stored", 64_KiB, Tier::kDisk, Backing::kStore)});
  testing::put(world.manager(), kFirst, Tier::kHost, 1);
  ASSERT_TRUE(world.manager().flush());
  ASSERT_TRUE(world.store().commit(1, "{}"));
  ASSERT_TRUE(world.store().wait_durable());
  testing::put(world.manager(), kFirst, Tier::kHost, 2);
  ASSERT_TRUE(world.manager().flush());
  ASSERT_TRUE(world.store().roll_back());
  world.manager().discard(kFirst);
  testing::expect_holds(world.manager(), kFirst, Tier::kHost, 1);
}

TEST_P(TierManagerBothTest, SnapshotAndRestoreCarryMemoryHomesOver) {
  TierWorld world({.addressing = GetParam()}, {spec("host", 70001_B, Tier::kHost, Backing::kStore),
                                               spec("device", 70001_B, Tier::kDevice, Backing::kStore)});
  for (const ObjectId id : {kFirst, kSecond}) {
    EXPECT_EQ(world.manager().snapshot(id).error().code, ErrorCode::kStore);
    EXPECT_EQ(world.manager().restore(id).error().code, ErrorCode::kStore);
    testing::put(world.manager(), id, Tier::kHost, 7 + id.value);
    ASSERT_TRUE(world.manager().snapshot(id));
    testing::expect_holds(world.manager(), id, Tier::kHost, 7 + id.value);
  }
  ASSERT_TRUE(world.manager().flush());
  ASSERT_TRUE(world.store().commit(1, "{}"));
  ASSERT_TRUE(world.store().wait_durable());
  world.reopen_manager();
  for (const ObjectId id : {kFirst, kSecond}) {
    EXPECT_FALSE(world.manager().read(id, Tier::kHost)) << "nothing is there before the restore";
    ASSERT_TRUE(world.manager().restore(id));
    testing::expect_holds(world.manager(), id, Tier::kDevice, 7 + id.value);
  }
}

TEST(TierManagerTest, LeasesMoveAndOldOnesAreReleased) {
  TierWorld world({}, {spec("a", 4_KiB, Tier::kHost, Backing::kNone), spec("b", 4_KiB, Tier::kHost, Backing::kNone)});
  testing::put(world.manager(), kFirst, Tier::kHost, 1);
  testing::put(world.manager(), kSecond, Tier::kHost, 2);
  auto a = world.manager().read(kFirst, Tier::kHost).value();
  auto b = world.manager().read(kSecond, Tier::kHost).value();
  a = std::move(b);
  EXPECT_TRUE(testing::holds(a.bytes(), 2));
  testing::put(world.manager(), kFirst, Tier::kHost, 3);  // would abort if the first lease still lived
  a.release();
  EXPECT_FALSE(a);
  EXPECT_TRUE(a.bytes().empty());
}

TEST(TierManagerTest, WriterWaitsForTheReadersOfOtherThreads) {
  TierWorld world({}, {spec("a", 64_KiB, Tier::kDisk, Backing::kStore)});
  testing::put(world.manager(), kFirst, Tier::kHost, 1);
  auto reader = world.manager().read(kFirst, Tier::kHost).value();
  std::thread writer([&] { testing::put(world.manager(), kFirst, Tier::kHost, 2); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_TRUE(testing::holds(reader.bytes(), 1));
  reader.release();
  writer.join();
  testing::expect_holds(world.manager(), kFirst, Tier::kHost, 2);
}

TEST(TierManagerDeathTest, SecondLeaseOfTheSameThreadAborts) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  TierWorld world({}, {spec("a", 4_KiB, Tier::kHost, Backing::kNone)});
  testing::put(world.manager(), kFirst, Tier::kHost, 1);
  EXPECT_DEATH(
      {
        const auto read = world.manager().read(kFirst, Tier::kHost);
        const auto write = world.manager().write(kFirst, Tier::kHost, Content::kKeep);
      },
      "'a' is written by a thread that leases it already");
}

}  // namespace
}  // namespace strata::tiers
