// Leases: who may see an object's bytes, and where.
#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/check.hpp"
#include "tiers/tier_manager_impl.hpp"

namespace strata::tiers {
namespace {

/// Keeps a copy from being evicted while a caller is on its way to lease it. Lives inside a Session.
class Pin {
 public:
  explicit Pin(Place& place) : place_(place) { ++place_.pins; }
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;
  ~Pin() { --place_.pins; }

 private:
  Place& place_;
};

}  // namespace

Object& TierManager::Impl::object_at(ObjectId id) {
  STRATA_CHECK(id.value < objects_.size(), fmt::format("there is no object {}", id.value));
  return objects_[id.value];
}

Tier TierManager::Impl::serving_tier(const Object& object, Tier asked) const {
  STRATA_CHECK(asked != Tier::kDisk, "bytes can be leased in device and host memory only");
  // What the host can address needs no copy: the home serves both tiers.
  if (shared_ && object.spec->home != Tier::kDisk) return object.spec->home;
  return asked;
}

Status TierManager::Impl::failure(const Object& object, std::uint64_t failed_before) {
  if (object.error) return tl::unexpected(*object.error);
  if (object.failed_fetches != failed_before && object.fetch_error) return tl::unexpected(*object.fetch_error);
  return {};
}

bool TierManager::Impl::held_by_this_thread(const Object& object) const {
  return std::find(object.holders.begin(), object.holders.end(), std::this_thread::get_id()) != object.holders.end();
}

void TierManager::Impl::remove_holder(Object& object, std::thread::id holder) {
  const auto entry = std::find(object.holders.begin(), object.holders.end(), holder);
  STRATA_CHECK(entry != object.holders.end(), fmt::format("object '{}' is not leased", object.spec->name));
  object.holders.erase(entry);
}

Result<ReadLease> TierManager::Impl::read(TierManager& manager, ObjectId id, Tier asked) {
  Session session(*this);
  Object& object = object_at(id);
  const Tier tier = serving_tier(object, asked);
  Place& place = object.at(tier);
  const Pin pin(place);
  RoomTicket ticket(*this);
  std::uint64_t late = 0;
  const std::uint64_t failed_before = object.failed_fetches;
  const auto wait_outside_the_queue = [&](Cause cause) {
    ticket.leave();
    late = 1;
    wait_for(session, cause, object.late_lane);
  };
  for (;;) {
    if (auto failed = failure(object, failed_before); !failed) return tl::unexpected(std::move(failed).error());
    if (object.written_to()) {
      STRATA_CHECK(!held_by_this_thread(object),
                   fmt::format("object '{}' is read by the thread that writes it", object.spec->name));
      wait_outside_the_queue(Cause::kOther);
      continue;
    }
    if (object.pending == Object::Pending::kNone && place.residency.readable()) break;
    const bool absent = object.pending == Object::Pending::kNone && place.residency.is(ResidencyState::kAbsent);
    const auto from = absent ? source_for(object, tier) : std::nullopt;
    if (!from) {
      if (object.transfers == 0) return tl::unexpected(unwritten(object));
      wait_outside_the_queue(Cause::kTransfer);
      continue;
    }
    STRATA_ASSIGN(const Room room, take_or_wait(session, ticket, object, tier,
                                                needs_staging(*from, tier) ? Staging::kYes : Staging::kNo));
    late = 1;
    if (room == Room::kTaken) start_fetch(session, object, tier, *from, io::Urgency::kDemand);
  }
  stats_.late_count += late;
  ++place.leases;
  place.use = Place::Use::kUsed;
  ReadLease lease;
  lease.manager_ = &manager;
  lease.object_ = id;
  lease.tier_ = tier;
  lease.holder_ = std::this_thread::get_id();
  lease.bytes_ = {place.data, object.spec->bytes.value};
  object.holders.push_back(lease.holder_);
  return lease;
}

Result<WriteLease> TierManager::Impl::write(TierManager& manager, ObjectId id, Tier asked, Content content) {
  Session session(*this);
  Object& object = object_at(id);
  const Tier tier = serving_tier(object, asked);
  Place& place = object.at(tier);
  const Pin pin(place);
  RoomTicket ticket(*this);
  std::uint64_t late = 0;
  const std::uint64_t failed_before = object.failed_fetches;
  for (;;) {
    if (auto failed = failure(object, failed_before); !failed) return tl::unexpected(std::move(failed).error());
    if (!object.holders.empty() || object.transfers > 0) {
      STRATA_CHECK(!held_by_this_thread(object),
                   fmt::format("object '{}' is written by a thread that leases it already", object.spec->name));
      ticket.leave();
      late = 1;
      wait_for(session, object.holders.empty() ? Cause::kTransfer : Cause::kOther, object.late_lane);
      continue;
    }
    // Nothing else happens to the object now.
    refresh_home(object);
    const bool fetch = content == Content::kKeep && !place.residency.readable();
    if (fetch && !object.home().residency.readable()) return tl::unexpected(unwritten(object));
    if (object.is_home(tier)) break;
    const bool absent = place.residency.is(ResidencyState::kAbsent);
    const Tier other_end = fetch ? *source_for(object, tier) : object.spec->home;
    const Staging staging = needs_staging(other_end, tier) ? Staging::kYes : Staging::kNo;
    if (!absent && staging == Staging::kNo) break;
    STRATA_ASSIGN(const Room room,
                  take_or_wait(session, ticket, object, absent ? std::optional(tier) : std::nullopt, staging));
    if (room == Room::kLookAgain) {
      late = 1;
    } else if (fetch) {
      start_fetch(session, object, tier, other_end, io::Urgency::kDemand);
    } else {
      break;
    }
  }
  stats_.late_count += late;
  begin_write_lease(object, tier, content);
  WriteLease lease;
  lease.manager_ = &manager;
  lease.object_ = id;
  lease.tier_ = tier;
  lease.holder_ = std::this_thread::get_id();
  lease.bytes_ = {place.data, object.spec->bytes.value};
  object.holders.push_back(lease.holder_);
  return lease;
}

void TierManager::Impl::begin_write_lease(Object& object, Tier tier, Content content) {
  Place& place = object.at(tier);
  drop_copies(object, tier);
  if (!object.is_home(tier)) {
    if (object.home().residency.is(ResidencyState::kClean)) object.home().residency.overtake();
    if (place.copy_slot == kNoSlot) add_copy(object, tier);
  }
  place.residency.begin_write();
  place.leases = 1;
  place.use = Place::Use::kUsed;
  // What reaches the disk is defined to the last byte.
  const std::uint64_t size = object.spec->bytes.value;
  if (content == Content::kOverwrite) std::memset(place.data + size, 0, object.padded.value - size);
}

void TierManager::Impl::end_read(ObjectId id, Tier tier, std::thread::id holder) noexcept {
  Session session(*this);
  Object& object = object_at(id);
  Place& place = object.at(tier);
  STRATA_CHECK(place.leases > 0, fmt::format("object '{}' is not leased", object.spec->name));
  --place.leases;
  place.last_use = ++clock_;
  remove_holder(object, holder);
  settle(session, object);
}

void TierManager::Impl::end_write(ObjectId id, Tier tier, std::thread::id holder) noexcept {
  Session session(*this);
  Object& object = object_at(id);
  Place& place = object.at(tier);
  place.leases = 0;
  place.last_use = ++clock_;
  remove_holder(object, holder);
  if (object.is_home(tier)) {
    place.residency.end_write_at_home();
    settle(session, object);
    return;
  }
  place.residency.begin_write_back();
  object.home().residency.begin_receive();
  write_out(session, object, tier, Purpose::kWriteBack);
}

void TierManager::Impl::abandon(ObjectId id, Tier tier, std::thread::id holder) noexcept {
  Session session(*this);
  Object& object = object_at(id);
  Place& place = object.at(tier);
  place.leases = 0;
  remove_holder(object, holder);
  if (object.is_home(tier)) {
    place.residency.abandon_home();
  } else {
    place.residency.abandon_copy();
    remove_copy(object, tier);
    object.staging.release();
    if (object.home().residency.is(ResidencyState::kStale)) object.home().residency.regain();
  }
  settle(session, object);
}

void TierManager::Impl::add_copy(Object& object, Tier tier) {
  Place& place = object.at(tier);
  place.data = place.piece.data();
  place.copy_slot = static_cast<std::uint32_t>(copies(tier).size());
  copies(tier).push_back(&object);
}

void TierManager::Impl::remove_copy(Object& object, Tier tier) {
  Place& place = object.at(tier);
  STRATA_CHECK(place.leases == 0 && place.sources == 0, fmt::format("'{}' is dropped in use", object.spec->name));
  if (place.use == Place::Use::kAheadUnused) stats_.wasted_bytes += object.spec->bytes.value;
  place.use = Place::Use::kUsed;
  auto& list = copies(tier);
  list[place.copy_slot] = list.back();
  list[place.copy_slot]->at(tier).copy_slot = place.copy_slot;
  list.pop_back();
  place.copy_slot = kNoSlot;
  place.data = nullptr;
  place.piece.release();
}

void TierManager::Impl::drop_copies(Object& object, std::optional<Tier> except) {
  for (const Tier tier : {Tier::kDevice, Tier::kHost}) {
    if (tier == except || object.at(tier).copy_slot == kNoSlot) continue;
    object.at(tier).residency.drop();
    remove_copy(object, tier);
  }
}

void TierManager::Impl::discard(ObjectId id) {
  Session session(*this);
  Object& object = object_at(id);
  STRATA_CHECK(object.holders.empty(), fmt::format("object '{}' is discarded while leased", object.spec->name));
  object.pending = Object::Pending::kDiscard;
  settle(session, object);
}

void TierManager::Impl::apply_discard(Object& object) {
  object.pending = Object::Pending::kNone;
  object.error.reset();
  object.fetch_error.reset();
  drop_copies(object, std::nullopt);
  object.home().residency.forget();
  refresh_home(object);
}

}  // namespace strata::tiers
