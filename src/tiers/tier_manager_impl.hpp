// Inside of the tier manager. One mutex guards all of it; what may block is done without it.
//
// Threads. Public calls come from any thread. Transfers complete on the I/O engine's thread and on the copy lanes'
// threads; a completion only keeps books and starts follow-up transfers. Starting a transfer may block while the
// engine's inbox is full, and a completion needs the mutex, so transfers are collected under the lock and started after
// it is released (Session). StateStore::begin_write may block on a commit in flight: it runs on the thread that ends
// the WriteLease or asks for the snapshot, without the lock, never on a completion.
//
// No deadlock over room. A transfer has all its extents, staging included, before it starts, and gives them back
// without asking for more. A WriteLease on a device copy whose home is on disk holds its staging from the start. So
// whatever is in flight ends by itself and its room becomes free or evictable; a caller waits for room only while
// something in flight will make some, and fails otherwise. Callers that wait are served in order; lookahead starts
// nothing in a tier while one waits there.
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "memory/arena.hpp"
#include "tiers/mover.hpp"
#include "tiers/object.hpp"
#include "tiers/pool.hpp"
#include "tiers/tier_manager.hpp"

namespace strata::tiers {

struct TierManager::Impl {
  /// Holds the mutex, and the transfers to start once it is released.
  class Session {
   public:
    explicit Session(Impl& impl) : impl_(impl), lock_(impl.mutex_) {}
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session() { flush_starts(); }

    void start_later(Move& move);
    /// Sleeps until something changed; returns at once, with the lock released in between, when transfers had to be
    /// started. The caller looks again at what it waits for.
    void wait();
    /// Runs `blocking` without the lock.
    template <class F>
    auto without_lock(F blocking) {
      flush_starts();
      auto result = blocking();
      lock_.lock();
      return result;
    }

   private:
    /// Leaves the mutex unlocked.
    void flush_starts();

    Impl& impl_;
    std::unique_lock<std::mutex> lock_;
    Move* first_ = nullptr;
    Move* last_ = nullptr;
  };

  enum class Cause : std::uint8_t { kTransfer, kRoom, kOther };
  enum class Eviction : std::uint8_t {
    kUnlisted,  ///< only copies that are not in the tier's lookahead list
    kAny        ///< those too, the one needed last first
  };

  /// A place in the queue of callers that wait for room; leaves it when destroyed.
  struct RoomTicket {
    explicit RoomTicket(Impl& owner) : impl(owner) {}
    RoomTicket(const RoomTicket&) = delete;
    RoomTicket& operator=(const RoomTicket&) = delete;
    ~RoomTicket() { leave(); }

    void join(Tier tier);
    void leave();
    /// May take room in `tier`: nobody else waits there, or this one is the first.
    [[nodiscard]] bool may_take(Tier tier) const;

    Impl& impl;
    std::optional<Tier> queue;
  };

  Impl(const TierManagerOptions& options, std::span<const ObjectSpec> specs, device::Device& device, io::Engine* engine,
       StateStore* store, memory::Arena host_arena, Bytes disk_bytes);

  // tier_manager.cpp: set-up
  [[nodiscard]] Status place_homes(const TierManagerOptions& options);

  // tier_leases.cpp
  [[nodiscard]] Result<ReadLease> read(TierManager& manager, ObjectId id, Tier asked);
  [[nodiscard]] Result<WriteLease> write(TierManager& manager, ObjectId id, Tier asked, Content content);
  void end_read(ObjectId id, Tier tier, std::thread::id holder) noexcept;
  void end_write(ObjectId id, Tier tier, std::thread::id holder) noexcept;
  void abandon(ObjectId id, Tier tier, std::thread::id holder) noexcept;
  void begin_write_lease(Object& object, Tier tier, Content content);
  /// The error that a lease of the object returns; of failed fetches only those after `failed_before`.
  [[nodiscard]] static Status failure(const Object& object, std::uint64_t failed_before);
  [[nodiscard]] Tier serving_tier(const Object& object, Tier asked) const;
  [[nodiscard]] bool held_by_this_thread(const Object& object) const;
  static void remove_holder(Object& object, std::thread::id holder);
  void add_copy(Object& object, Tier tier);
  void remove_copy(Object& object, Tier tier);
  void drop_copies(Object& object, std::optional<Tier> except);
  void discard(ObjectId id);
  void apply_discard(Object& object);

  // tier_transfers.cpp
  /// Where the object's value can be read from to fill `to`; nullopt when nothing has it now.
  [[nodiscard]] std::optional<Tier> source_for(Object& object, Tier to);
  /// Looks whether the store got a version of a disk home that had none.
  void refresh_home(Object& object);
  [[nodiscard]] Error unwritten(const Object& object) const;
  [[nodiscard]] bool needs_staging(Tier a, Tier b) const;
  /// The extents are there already (take_extents).
  void start_fetch(Session& session, Object& object, Tier to, Tier from, io::Urgency urgency);
  /// Sends the bytes in `from` home or into the store. Gives up the lock while StateStore::begin_write may block.
  void write_out(Session& session, Object& object, Tier from, Purpose purpose);
  void count_transfer(Object& object, Lane lane);
  [[nodiscard]] DiskExtent disk_to_read(const Object& object) const;
  [[nodiscard]] Move& new_move(Object& object, Purpose purpose, Tier from, Tier to);
  static void on_transfer(Transfer& transfer) noexcept;
  void complete(Move& move) noexcept;
  void end_of_fetch(Object& object, Tier from, Tier to, const std::optional<Error>& error);
  void end_of_restore(Object& object, const std::optional<Error>& error);
  void end_of_write(Object& object, Tier from, Purpose purpose, const std::optional<Error>& error);
  /// After any change of an object: pending work, lookahead, and everybody who waits.
  void settle(Session& session, Object& object);
  [[nodiscard]] Status snapshot(ObjectId id);
  [[nodiscard]] Status restore(ObjectId id);
  [[nodiscard]] Status flush();

  // tier_room.cpp
  enum class Staging : std::uint8_t { kNo, kYes };
  /// Takes room for a copy in `tier` (if given) and for staging (if wished), both or neither; returns the tier that is
  /// short, nullopt when all is there.
  [[nodiscard]] std::optional<Tier> take_extents(Object& object, std::optional<Tier> tier, Staging staging,
                                                 Eviction eviction);
  [[nodiscard]] std::optional<Piece> take_room(Tier tier, Kind kind, Bytes bytes, Eviction eviction);
  [[nodiscard]] Object* pick_victim(Tier tier, Eviction eviction);
  [[nodiscard]] bool will_make_room(Tier tier) const;
  [[nodiscard]] Error no_room(const Object& object, Tier tier) const;
  /// Takes the extents, or waits once for room; an error when nothing in flight will make any.
  enum class Room : std::uint8_t { kTaken, kLookAgain };
  [[nodiscard]] Result<Room> take_or_wait(Session& session, RoomTicket& ticket, Object& object,
                                          std::optional<Tier> tier, Staging staging);
  void set_lookahead(Tier tier, std::span<const ObjectId> upcoming);
  void list_upcoming(Tier tier, std::span<const ObjectId> upcoming);
  void drop_unleased(Tier tier);
  void pump(Session& session);
  void pump_tier(Session& session, Tier tier);
  /// Waits, and books the time on its cause.
  void wait_for(Session& session, Cause cause, Lane lane);

  [[nodiscard]] Object& object_at(ObjectId id);
  [[nodiscard]] Budget& budget(Tier tier) { return budgets_[static_cast<std::size_t>(tier)]; }
  [[nodiscard]] Pool& pool(Tier tier) { return *pools_[static_cast<std::size_t>(tier)]; }
  [[nodiscard]] std::vector<Object*>& copies(Tier tier) { return copies_[static_cast<std::size_t>(tier)]; }
  [[nodiscard]] const std::vector<Object*>& copies(Tier tier) const { return copies_[static_cast<std::size_t>(tier)]; }
  [[nodiscard]] std::deque<const RoomTicket*>& queue(Tier tier) { return queues_[static_cast<std::size_t>(tier)]; }

  // Fixed after start.
  const std::vector<ObjectSpec> specs_;
  device::Device& device_;
  StateStore* const store_;
  const bool shared_;
  const memory::Arena host_arena_;
  std::array<Budget, kTierCount> budgets_;
  std::vector<Reservation> home_reservations_;
  Mover mover_;

  // Any thread, under mutex_.
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::array<std::optional<Pool>, 2> pools_;  ///< device, host: what the homes leave
  std::deque<Object> objects_;
  std::array<std::vector<Object*>, 2> copies_;  ///< objects with a copy in the tier
  std::array<std::vector<ObjectId>, 2> lookahead_;
  std::array<std::uint64_t, 2> cycle_{1, 1};
  std::array<std::deque<const RoomTicket*>, 2> queues_;  ///< callers that wait for room
  std::deque<Move> moves_;                               ///< grows to the most that were ever in flight
  Move* free_moves_ = nullptr;
  std::uint32_t transfers_ = 0;  ///< of all objects
  std::uint32_t writes_ = 0;     ///< write-backs and snapshots of Backing::kStore among them
  std::optional<Error> write_error_;
  std::uint64_t clock_ = 0;
  TierStats stats_;
};

}  // namespace strata::tiers
