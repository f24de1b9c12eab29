// A tier manager with all that it stands on, in a folder of its own.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "device/device.hpp"
#include "io/engine.hpp"
#include "support/scripted_engine.hpp"
#include "tiers/state_store.hpp"
#include "tiers/tier_manager.hpp"

namespace strata::testing {

struct WorldOptions {
  device::Addressing addressing = device::Addressing::kShared;
  Bytes device_pool{4u << 20};
  Bytes host_budget{4u << 20};
  enum class Engine : std::uint8_t { kThreads, kAuto, kScripted } engine = Engine::kThreads;
  std::uint32_t slots = 2;
};

/// Objects with Backing::kStore get their store ids in order.
class TierWorld {
 public:
  TierWorld(const WorldOptions& options, std::vector<tiers::ObjectSpec> specs) : options_(options), specs_(specs) {
    std::string name = (std::filesystem::temp_directory_path() / "strata-tiers-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    open_engine();
    device_ = device::open_host_device({.memory = options.device_pool, .addressing = options.addressing}).value();
    open_store();
    reopen_manager();
  }

  ~TierWorld() {
    manager_.reset();
    store_.reset();
    engine_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  TierWorld(const TierWorld&) = delete;
  TierWorld& operator=(const TierWorld&) = delete;

  /// A new manager over the same store: what a resume sees, without the memory of before.
  void reopen_manager() {
    manager_.reset();
    auto manager = tiers::TierManager::create({.device_pool = options_.device_pool,
                                               .host_budget = options_.host_budget,
                                               .page_lock = memory::PageLock::kNone},
                                              specs_, *device_, engine_.get(), store_.get());
    ASSERT_TRUE(manager) << to_string(manager.error());
    manager_ = *std::move(manager);
  }

  [[nodiscard]] tiers::TierManager& manager() { return *manager_; }
  [[nodiscard]] tiers::StateStore& store() { return *store_; }
  [[nodiscard]] ScriptedEngine& scripted() { return dynamic_cast<ScriptedEngine&>(*engine_); }
  [[nodiscard]] device::Device& device() { return *device_; }

 private:
  void open_engine() {
    if (options_.engine == WorldOptions::Engine::kScripted) {
      engine_ = std::make_unique<ScriptedEngine>();
      return;
    }
    const auto kind = options_.engine == WorldOptions::Engine::kAuto ? io::EngineKind::kAuto : io::EngineKind::kThreads;
    auto engine = io::open_engine({.kind = kind, .threads = 2, .report = {}});
    ASSERT_TRUE(engine) << to_string(engine.error());
    engine_ = *std::move(engine);
  }

  void open_store() {
    std::vector<tiers::StoreObject> objects;
    Bytes scratch;
    for (tiers::ObjectSpec& spec : specs_) {
      if (spec.backing == tiers::Backing::kStore) {
        spec.store_id = tiers::StoreId(static_cast<std::uint32_t>(objects.size()));
        objects.push_back({.name = spec.name, .bytes = spec.bytes});
      } else if (spec.backing == tiers::Backing::kScratch) {
        scratch += round_up(spec.bytes, kBlockAlignment);
      }
    }
    tiers::StoreOptions store_options;
    store_options.run_id = "0123456789abcdef0123456789abcdef";
    store_options.paths = {folder_};
    store_options.slots = options_.slots;
    store_options.scratch = scratch * 2;  // reopen_manager() allocates its scratch again
    auto store = tiers::StateStore::create(store_options, objects, *engine_);
    ASSERT_TRUE(store) << to_string(store.error());
    store_ = *std::move(store);
  }

  const WorldOptions options_;
  std::vector<tiers::ObjectSpec> specs_;
  std::filesystem::path folder_;
  std::unique_ptr<io::Engine> engine_;
  std::unique_ptr<device::Device> device_;
  std::unique_ptr<tiers::StateStore> store_;
  std::unique_ptr<tiers::TierManager> manager_;
};

/// Bytes that tell (object, version) apart at every position.
inline void fill(std::span<std::byte> bytes, std::uint64_t key) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>((key * 0x9e3779b97f4a7c15ull + i * 0xbf58476d1ce4e5b9ull) >> 40);
  }
}

[[nodiscard]] inline bool holds(std::span<const std::byte> bytes, std::uint64_t key) {
  std::vector<std::byte> expected(bytes.size());
  fill(expected, key);
  return std::memcmp(expected.data(), bytes.data(), bytes.size()) == 0;
}

/// Writes version `key` of the object through a lease; fails the test on an error.
inline void put(tiers::TierManager& manager, ObjectId id, Tier tier, std::uint64_t key) {
  auto lease = manager.write(id, tier, tiers::Content::kOverwrite);
  ASSERT_TRUE(lease) << to_string(lease.error());
  fill(lease->bytes(), key);
}

inline void expect_holds(tiers::TierManager& manager, ObjectId id, Tier tier, std::uint64_t key) {
  auto lease = manager.read(id, tier);
  ASSERT_TRUE(lease) << to_string(lease.error());
  EXPECT_TRUE(holds(lease->bytes(), key)) << "object " << id.value << " in " << name_of(tier);
}

}  // namespace strata::testing
