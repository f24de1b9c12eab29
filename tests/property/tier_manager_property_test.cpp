// Random programs over a few objects and tiny pools, compared with a plain map; with one thread and with two.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <iostream>
#include <map>
#include <optional>
#include <random>
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

std::uint64_t test_seed() {
  const char* given = std::getenv("STRATA_TEST_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::cout << "STRATA_TEST_SEED=" << seed << "\n";
  return seed;
}

/// Sizes from one block to eleven.
std::vector<ObjectSpec> objects() {
  std::vector<ObjectSpec> specs;
  const auto add = [&](std::string name, std::uint64_t bytes, Tier home, Backing backing) {
    specs.push_back({.name = std::move(name),
                     .kind = Kind::kOptimizer,
                     .bytes = Bytes(bytes),
                     .home = home,
                     .backing = backing,
                     .store_id = {}});
  };
  add("stored.0", 4096, Tier::kDisk, Backing::kStore);
  add("stored.1", 20001, Tier::kDisk, Backing::kStore);
  add("stored.2", 45000, Tier::kDisk, Backing::kStore);
  add("stored.3", 17, Tier::kDisk, Backing::kStore);
  add("scratch.0", 30000, Tier::kDisk, Backing::kScratch);
  add("scratch.1", 8192, Tier::kDisk, Backing::kScratch);
  add("host.0", 12345, Tier::kHost, Backing::kStore);
  add("host.1", 4097, Tier::kHost, Backing::kNone);
  add("device.0", 9000, Tier::kDevice, Backing::kStore);
  add("device.1", 4096, Tier::kDevice, Backing::kNone);
  return specs;
}

/// Homes in memory, and beside them room for the largest object once per lease that may live at a time; with more than
/// one thread, as much again, so that no extent of another thread can cut the room into pieces that are too small.
WorldOptions options(Addressing addressing, std::uint64_t threads) {
  const Bytes room = 44_KiB * (threads * 2 - 1);
  // Both engines get their turn.
  const auto engine = addressing == Addressing::kShared ? WorldOptions::Engine::kAuto : WorldOptions::Engine::kThreads;
  return {.addressing = addressing, .device_pool = 16_KiB + room, .host_budget = 24_KiB + room, .engine = engine};
}

/// What an object must hold; nullopt: nothing, a read must fail.
struct Expected {
  std::optional<std::uint64_t> value;
  std::optional<std::uint64_t> stored;  ///< what the state store has
};

/// Works on objects first, first + step, ... alone, so that two programs can run side by side.
class Program {
 public:
  Program(TierWorld& world, std::uint64_t seed, std::uint32_t first, std::uint32_t step)
      : world_(world), random_(seed) {
    for (std::uint32_t i = first; i < world.manager().objects().size(); i += step) mine_.push_back(ObjectId(i));
  }

  void run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) step();
    for (const ObjectId id : mine_) check(id);
  }

 private:
  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  ObjectId any() { return mine_[below(mine_.size())]; }
  Tier any_tier() { return below(2) == 0 ? Tier::kDevice : Tier::kHost; }
  const ObjectSpec& spec(ObjectId id) { return world_.manager().objects()[id.value]; }
  bool is_stored(ObjectId id) { return spec(id).backing == Backing::kStore; }
  bool is_disk(ObjectId id) { return spec(id).home == Tier::kDisk; }

  void step() {
    switch (below(10)) {
      case 0:
      case 1:
      case 2: check(any()); break;
      case 3:
      case 4: overwrite(any()); break;
      case 5: modify(any()); break;
      case 6: look_ahead(); break;
      case 7: discard(any()); break;
      case 8: snapshot_or_restore(any()); break;
      default: below(2) == 0 ? abandon(any()) : flush(); break;
    }
  }

  void check(ObjectId id) {
    auto lease = world_.manager().read(id, any_tier());
    const auto& value = expected_[id].value;
    ASSERT_EQ(lease.has_value(), value.has_value()) << spec(id).name << (lease ? "" : ": " + lease.error().message);
    if (lease) {
      ASSERT_TRUE(testing::holds(lease->bytes(), *value)) << spec(id).name << " version " << *value;
    }
  }

  void overwrite(ObjectId id) {
    auto lease = world_.manager().write(id, any_tier(), Content::kOverwrite);
    ASSERT_TRUE(lease) << to_string(lease.error());
    change(id, *lease);
  }

  void modify(ObjectId id) {
    auto lease = world_.manager().write(id, any_tier(), Content::kKeep);
    const auto& value = expected_[id].value;
    ASSERT_EQ(lease.has_value(), value.has_value()) << spec(id).name << (lease ? "" : ": " + lease.error().message);
    if (!lease) return;
    ASSERT_TRUE(testing::holds(lease->bytes(), *value)) << spec(id).name;
    change(id, *lease);
  }

  void change(ObjectId id, WriteLease& lease) {
    Expected& object = expected_[id];
    object.value = ++version_ * 1000 + id.value;
    testing::fill(lease.bytes(), *object.value);
    if (is_disk(id) && is_stored(id)) object.stored = object.value;
  }

  void abandon(ObjectId id) {
    if (!is_disk(id)) return;  // undefined in memory
    auto lease = world_.manager().write(id, any_tier(), Content::kOverwrite);
    ASSERT_TRUE(lease) << to_string(lease.error());
    testing::fill(lease->bytes(), 77);
    lease->abandon();
  }

  void look_ahead() {
    std::vector<ObjectId> list;
    for (std::uint64_t i = below(6); i > 0; --i) list.push_back(any());
    world_.manager().set_lookahead(any_tier(), list);
  }

  void discard(ObjectId id) {
    world_.manager().discard(id);
    Expected& object = expected_[id];
    object.value = is_disk(id) && is_stored(id) ? object.stored : std::nullopt;
  }

  void snapshot_or_restore(ObjectId id) {
    if (!is_stored(id) || is_disk(id)) return;
    Expected& object = expected_[id];
    if (below(3) > 0) {
      ASSERT_EQ(world_.manager().snapshot(id).has_value(), object.value.has_value()) << spec(id).name;
      if (object.value) object.stored = object.value;
    } else {
      // The store shows a version once its write has ended.
      ASSERT_TRUE(world_.manager().flush());
      ASSERT_EQ(world_.manager().restore(id).has_value(), object.stored.has_value()) << spec(id).name;
      if (object.stored) object.value = object.stored;
    }
  }

  void flush() { ASSERT_TRUE(world_.manager().flush()); }

  TierWorld& world_;
  std::mt19937_64 random_;
  std::vector<ObjectId> mine_;
  std::map<ObjectId, Expected> expected_;
  std::uint64_t version_ = 0;
};

void expect_within_budgets(TierManager& manager) {
  for (const Tier tier : {Tier::kDevice, Tier::kHost, Tier::kDisk}) {
    const BudgetUse use = manager.budget(tier).use();
    EXPECT_LE(use.peak, use.limit) << name_of(tier);
  }
}

class TierManagerPropertyTest : public ::testing::TestWithParam<Addressing> {};
INSTANTIATE_TEST_SUITE_P(Devices, TierManagerPropertyTest,
                         ::testing::Values(Addressing::kShared, Addressing::kSeparate),
                         [](const auto& test) { return test.param == Addressing::kShared ? "Shared" : "Separate"; });

TEST_P(TierManagerPropertyTest, RandomProgramsAgreeWithAMap) {
  const std::uint64_t seed = test_seed();
  for (std::uint64_t round = 0; round < 8 && !HasFailure(); ++round) {
    TierWorld world(options(GetParam(), 1), objects());
    Program(world, seed + round, 0, 1).run(600);
    expect_within_budgets(world.manager());
  }
}

TEST_P(TierManagerPropertyTest, TwoProgramsSideBySideAgreeWithTheirMaps) {
  const std::uint64_t seed = test_seed();
  for (std::uint64_t round = 0; round < 8 && !HasFailure(); ++round) {
    TierWorld world(options(GetParam(), 2), objects());
    std::thread other([&] { Program(world, seed + 100 + round, 0, 2).run(500); });
    Program(world, seed + 200 + round, 1, 2).run(500);
    other.join();
    expect_within_budgets(world.manager());
  }
}

TEST_P(TierManagerPropertyTest, ThreadsThatShareObjectsSeeWholeVersions) {
  const std::uint64_t seed = test_seed();
  TierWorld world(options(GetParam(), 2), objects());
  TierManager& manager = world.manager();
  for (std::uint32_t i = 0; i < manager.objects().size(); ++i) testing::put(manager, ObjectId(i), Tier::kHost, 1);
  const auto work = [&](std::uint64_t thread) {
    std::mt19937_64 random(seed + thread);
    for (int i = 0; i < 400 && !HasFailure(); ++i) {
      const ObjectId id(static_cast<std::uint32_t>(random() % manager.objects().size()));
      const Tier tier = random() % 2 == 0 ? Tier::kDevice : Tier::kHost;
      if (random() % 3 == 0) {
        testing::put(manager, id, tier, random() % 256);
        continue;
      }
      const auto lease = manager.read(id, tier);
      ASSERT_TRUE(lease) << to_string(lease.error());
      std::optional<std::uint64_t> whole;
      for (std::uint64_t key = 0; key < 256 && !whole; ++key) {
        std::array<std::byte, 1> first{};
        testing::fill(first, key);
        if (first[0] == lease->bytes()[0] && testing::holds(lease->bytes(), key)) whole = key;
      }
      ASSERT_TRUE(whole) << "a mixture of versions of " << manager.objects()[id.value].name;
    }
  };
  std::thread a(work, 1);
  std::thread b(work, 2);
  a.join();
  b.join();
  EXPECT_TRUE(manager.flush());
  expect_within_budgets(manager);
}

}  // namespace
}  // namespace strata::tiers
