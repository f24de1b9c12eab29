// The one entry to bytes in tiers: objects, their residency, leases, and the transfers between device, host and disk.
//
// An object has a home tier, where its bytes always have a place, and may have a copy in nearer tiers, cut from that
// tier's pool. Reading goes through a ReadLease, changing through a WriteLease; when a WriteLease ends, the change goes
// home by itself and copies elsewhere are dropped. One residency state machine per (object, tier): residency.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/result.hpp"
#include "device/device.hpp"
#include "io/engine.hpp"
#include "memory/arena.hpp"
#include "strata/types.hpp"
#include "tiers/budget.hpp"
#include "tiers/lane.hpp"
#include "tiers/state_store.hpp"

namespace strata::tiers {

/// What a disk home is, or where a snapshot of a nearer home goes.
enum class Backing : std::uint8_t {
  kNone,    ///< lives and dies in memory (home device or host)
  kStore,   ///< a state store object: versioned; a home in memory is snapshotted into it
  kScratch  ///< a fixed place in the scratch area (home disk)
};

struct ObjectSpec {
  std::string name;
  Kind kind = Kind::kOther;
  Bytes bytes;
  Tier home = Tier::kHost;
  Backing backing = Backing::kNone;
  StoreId store_id{};  ///< with Backing::kStore
};

class TierManager;

/// Right to read an object's bytes in one tier; they stay where they are until the lease ends. Move-only.
class ReadLease {
 public:
  ReadLease() = default;
  ReadLease(ReadLease&& other) noexcept;
  ReadLease& operator=(ReadLease&& other) noexcept;
  ~ReadLease() { release(); }

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
  [[nodiscard]] explicit operator bool() const noexcept { return manager_ != nullptr; }
  void release() noexcept;

 private:
  friend class TierManager;
  TierManager* manager_ = nullptr;
  ObjectId object_;
  Tier tier_ = Tier::kDevice;
  std::thread::id holder_;
  std::span<const std::byte> bytes_;
};

/// Right to change an object's bytes in one tier. Its end marks them dirty and starts the write-back home, which runs
/// on: a failure reaches the next flush(), and every later lease of the object. Move-only.
class WriteLease {
 public:
  WriteLease() = default;
  WriteLease(WriteLease&& other) noexcept;
  WriteLease& operator=(WriteLease&& other) noexcept;
  ~WriteLease() { release(); }

  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
  [[nodiscard]] explicit operator bool() const noexcept { return manager_ != nullptr; }
  void release() noexcept;
  /// Ends the lease without a write-back; the object's content is undefined where its home is in memory (reads fail
  /// until it is overwritten or restored), and the old content where its home is on disk. For steps that are given up.
  void abandon() noexcept;

 private:
  friend class TierManager;
  TierManager* manager_ = nullptr;
  ObjectId object_;
  Tier tier_ = Tier::kDevice;
  std::thread::id holder_;
  std::span<std::byte> bytes_;
};

enum class Content : std::uint8_t {
  kKeep,      ///< the bytes are read first (read-modify-write)
  kOverwrite  ///< the bytes are undefined on entry; nothing is fetched
};

struct TierStats {
  std::array<std::uint64_t, kLaneCount> bytes{};          ///< payload completed, since the manager was made
  std::array<std::uint64_t, kLaneCount> busy_ns{};        ///< time with at least one transfer in flight
  std::array<std::uint64_t, kLaneCount> stall_late_ns{};  ///< callers waited for a transfer on this lane
  std::uint64_t stall_no_room_ns = 0;                     ///< callers waited for room in a pool
  std::uint64_t late_count = 0;                           ///< leases that had to wait
  std::uint64_t wasted_bytes = 0;                         ///< fetched ahead and dropped unused
  std::uint64_t refetched_bytes = 0;  ///< fetched again in the same lookahead cycle after an eviction
};

struct TierManagerOptions {
  Bytes device_pool;  ///< of the device arena, for homes in device memory and copies; starts at the arena's offset 0
  Bytes host_budget;  ///< the host arena's exact size: homes in host memory, then the pool of copies and staging
  memory::PageLock page_lock = memory::PageLock::kTry;
};

/// Thread-safe unless said otherwise. `device`, `engine` and `store` outlive it; `engine` and `store` may be null when
/// no object touches the disk.
class TierManager {
 public:
  [[nodiscard]] static Result<std::unique_ptr<TierManager>> create(const TierManagerOptions& options,
                                                                   std::span<const ObjectSpec> objects,
                                                                   device::Device& device, io::Engine* engine,
                                                                   StateStore* store);
  /// Waits for transfers in flight. No lease may be alive.
  ~TierManager();
  TierManager(const TierManager&) = delete;
  TierManager& operator=(const TierManager&) = delete;

  /// ObjectId i is objects[i] of create().
  /// Blocks until the bytes are in `tier` (its own home, or a copy). Waits while the pool has no room and something in
  /// flight will make some; kDoesNotFit, naming what holds the room, when nothing will. An object whose home is nearer
  /// than `tier` is read at home if the host can address it. With Addressing::kShared a device read of a host home is
  /// the home itself: no copy. Leases of other threads do not count as "something in flight". Reading an object that
  /// was never written is an error: kStore with Backing::kStore, else kInternal. A failed fetch reaches everybody who
  /// waited for it; the next lease tries again. A failed write-back or snapshot stays until discard() or restore().
  [[nodiscard]] Result<ReadLease> read(ObjectId object, Tier tier);
  /// Exclusive: waits for other leases of the object (a second lease by the same thread would deadlock, and aborts).
  /// Copies in other tiers are dropped; a snapshot in flight is waited for.
  [[nodiscard]] Result<WriteLease> write(ObjectId object, Tier tier, Content content);

  /// Declares what will be read next in `tier`, nearest first. Fetches start in this order as room allows, evicting
  /// only clean copies that are not in the list (least recently used first), now and whenever room appears, until the
  /// next call for the tier. Replaces the list of before. Never blocks.
  void set_lookahead(Tier tier, std::span<const ObjectId> upcoming);

  /// Waits for what is in flight in `tier`, then drops every copy there that nobody leases, and the lookahead with
  /// them: what is free is in as few runs as the leases allow. After a kDoesNotFit that is owed to scattered room.
  void drop_unleased(Tier tier);

  /// Declares that the object's content is no longer needed (a gradient after its step): copies are dropped, a transfer
  /// in flight first runs to its end. A disk home with Backing::kStore shows what the store has from now on, so this
  /// also follows StateStore::roll_back. Errors of the object are forgotten. No lease of it may be alive. Never blocks.
  void discard(ObjectId object);

  /// Starts writing a memory-homed kStore object to its next slot; the bytes may be read meanwhile, and a WriteLease
  /// waits for the end.
  [[nodiscard]] Status snapshot(ObjectId object);
  /// Loads a memory-homed kStore object from its newest version in the store (resume, roll back). Earlier errors of
  /// the object are forgotten; if this fails, its content is undefined and restore() may be called again.
  [[nodiscard]] Status restore(ObjectId object);
  /// Waits for the write-backs and snapshots in flight of Backing::kStore; returns their first error since the last
  /// call. Of other objects only the next lease hears: what a step spills has no part in what a commit promises.
  [[nodiscard]] Status flush();

  /// The device's covers its whole arena (what lies beyond the pool is reserved by others); the disk's counts each disk
  /// home once.
  [[nodiscard]] Budget& budget(Tier tier);
  [[nodiscard]] TierStats stats() const;
  [[nodiscard]] std::span<const ObjectSpec> objects() const;
  /// What the host arena could not have, with the command that mends it.
  [[nodiscard]] const std::vector<std::string>& shortfalls() const;

 private:
  friend class ReadLease;
  friend class WriteLease;
  struct Impl;
  explicit TierManager(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata::tiers
