// What the tier manager knows of one object: its place in each tier, and what is in flight.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <thread>
#include <vector>

#include "base/result.hpp"
#include "strata/types.hpp"
#include "tiers/mover.hpp"
#include "tiers/pool.hpp"
#include "tiers/residency.hpp"
#include "tiers/tier_manager.hpp"

namespace strata::tiers {

inline constexpr std::uint32_t kUnranked = std::numeric_limits<std::uint32_t>::max();
inline constexpr std::uint32_t kNoSlot = std::numeric_limits<std::uint32_t>::max();

/// An object's bytes in one tier.
struct Place {
  Residency residency;
  std::byte* data = nullptr;  ///< null on disk, and while kAbsent
  Piece piece;                ///< a copy's extent; homes lie before the pool
  std::uint32_t leases = 0;
  std::uint32_t pins = 0;     ///< callers about to lease it
  std::uint32_t sources = 0;  ///< transfers that read it to fill another tier
  // An extent goes back to the pool only when leases and sources are 0 and no transfer moves it; pins keep it from
  // being evicted between its arrival and the lease, so that a caller that waited makes progress.

  enum class Use : std::uint8_t { kUsed, kAheadUnused } use = Use::kUsed;
  std::uint64_t last_use = 0;          ///< stamp of the least-recently-used order
  std::uint32_t rank = kUnranked;      ///< position in the tier's lookahead list
  std::uint64_t evicted_in_cycle = 0;  ///< the lookahead list during which it was last evicted
  std::uint32_t copy_slot = kNoSlot;   ///< position in the tier's list of copies

  [[nodiscard]] bool evictable() const {
    return residency.is(ResidencyState::kClean) && leases == 0 && pins == 0 && sources == 0;
  }
};

struct Object {
  const ObjectSpec* spec = nullptr;
  ObjectId id;
  Bytes padded;        ///< spec->bytes rounded up to 4 KiB: what extents hold and the disk moves
  DiskExtent scratch;  ///< with Backing::kScratch
  std::array<Place, kTierCount> places;
  Piece staging;                     ///< host bytes between disk and a separate device, reserved before they are needed
  std::uint32_t transfers = 0;       ///< in flight, or about to be
  Lane late_lane = Lane::kDiskRead;  ///< of the transfer started last
  enum class Pending : std::uint8_t { kNone, kDiscard } pending = Pending::kNone;
  std::optional<Error> error;            ///< of a write: every later lease returns it, until discard() or restore()
  std::optional<Error> fetch_error;      ///< of the last fetch or restore; none once one has succeeded
  std::uint64_t failed_fetches = 0;      ///< whoever waited for one returns fetch_error; the next lease tries again
  std::vector<std::thread::id> holders;  ///< one entry per lease, for the check against self-deadlock

  [[nodiscard]] Place& at(Tier tier) { return places[static_cast<std::size_t>(tier)]; }
  [[nodiscard]] const Place& at(Tier tier) const { return places[static_cast<std::size_t>(tier)]; }
  [[nodiscard]] Place& home() { return at(spec->home); }
  [[nodiscard]] bool is_home(Tier tier) const { return spec->home == tier; }
  [[nodiscard]] bool written_to() const {
    return at(Tier::kDevice).residency.is(ResidencyState::kWriting) ||
           at(Tier::kHost).residency.is(ResidencyState::kWriting);
  }
};

enum class Purpose : std::uint8_t { kFetch, kWriteBack, kSnapshot, kRestore };

/// A transfer of an object, and what its end means.
struct Move : Transfer {
  Object* object = nullptr;
  Purpose purpose = Purpose::kFetch;
  Move* next = nullptr;  ///< in the list of moves to start, or in the free list
};

}  // namespace strata::tiers
