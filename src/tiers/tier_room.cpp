// Room: what is evicted for whom, who waits, and what is fetched ahead.
#include <algorithm>

#include <fmt/format.h>

#include "base/check.hpp"
#include "base/size_text.hpp"
#include "tiers/tier_manager_impl.hpp"

namespace strata::tiers {

void TierManager::Impl::RoomTicket::join(Tier tier) {
  if (queue == tier) return;
  leave();
  queue = tier;
  impl.queue(tier).push_back(this);
}

void TierManager::Impl::RoomTicket::leave() {
  if (!queue) return;
  auto& line = impl.queue(*queue);
  line.erase(std::find(line.begin(), line.end(), this));
  queue.reset();
  impl.changed_.notify_all();  // the next in line looks again
}

bool TierManager::Impl::RoomTicket::may_take(Tier tier) const {
  const auto& line = impl.queue(tier);
  return line.empty() || line.front() == this;
}

Result<TierManager::Impl::Room> TierManager::Impl::take_or_wait(Session& session, RoomTicket& ticket, Object& object,
                                                                std::optional<Tier> tier, Staging staging) {
  std::optional<Tier> short_of;
  if (tier && !ticket.may_take(*tier)) {
    short_of = tier;
  } else if (staging == Staging::kYes && !ticket.may_take(Tier::kHost)) {
    short_of = Tier::kHost;
  } else {
    short_of = take_extents(object, tier, staging, Eviction::kAny);
    if (!short_of) {
      ticket.leave();
      return Room::kTaken;
    }
    if (!will_make_room(*short_of)) return tl::unexpected(no_room(object, *short_of));
  }
  ticket.join(*short_of);
  wait_for(session, Cause::kRoom, Lane::kDiskRead);
  return Room::kLookAgain;
}

std::optional<Tier> TierManager::Impl::take_extents(Object& object, std::optional<Tier> tier, Staging staging,
                                                    Eviction eviction) {
  std::optional<Piece> copy;
  if (tier) {
    copy = take_room(*tier, object.spec->kind, object.padded, eviction);
    if (!copy) return tier;
  }
  if (staging == Staging::kYes) {
    STRATA_CHECK(!object.staging, fmt::format("object '{}' is staged twice", object.spec->name));
    auto piece = take_room(Tier::kHost, Kind::kStaging, object.padded, eviction);
    if (!piece) return Tier::kHost;
    object.staging = *std::move(piece);
  }
  if (tier) object.at(*tier).piece = *std::move(copy);
  return std::nullopt;
}

std::optional<Piece> TierManager::Impl::take_room(Tier tier, Kind kind, Bytes bytes, Eviction eviction) {
  if (auto piece = pool(tier).try_take(kind, bytes)) return piece;
  // Nothing is evicted in vain.
  Bytes in_reach = pool(tier).free();
  for (const Object* object : copies(tier)) {
    const Place& place = object->at(tier);
    if (place.evictable() && (eviction == Eviction::kAny || place.rank == kUnranked)) in_reach += object->padded;
  }
  if (in_reach < bytes) return std::nullopt;
  while (Object* victim = pick_victim(tier, eviction)) {
    Place& place = victim->at(tier);
    place.residency.drop();
    place.evicted_in_cycle = cycle_[static_cast<std::size_t>(tier)];
    remove_copy(*victim, tier);
    if (auto piece = pool(tier).try_take(kind, bytes)) return piece;
  }
  return std::nullopt;
}

Object* TierManager::Impl::pick_victim(Tier tier, Eviction eviction) {
  // Unlisted copies go first, the least recently used of them before the others; then those needed last (Belady).
  const auto better = [tier](const Object* a, const Object* b) {
    const Place& x = a->at(tier);
    const Place& y = b->at(tier);
    if (x.rank != y.rank) return x.rank > y.rank;  // kUnranked is the largest
    return x.last_use < y.last_use;
  };
  Object* victim = nullptr;
  for (Object* object : copies(tier)) {
    const Place& place = object->at(tier);
    if (!place.evictable() || (eviction == Eviction::kUnlisted && place.rank != kUnranked)) continue;
    if (victim == nullptr || better(object, victim)) victim = object;
  }
  return victim;
}

bool TierManager::Impl::will_make_room(Tier tier) const {
  for (const Object* object : copies(tier)) {
    const Place& place = object->at(tier);
    if (place.leases == 0 && (place.residency.in_flight() || place.sources > 0)) return true;
  }
  if (tier != Tier::kHost) return false;
  // Staging of a transfer is free when it ends; that of a WriteLease only after its holder has ended it.
  return std::any_of(objects_.begin(), objects_.end(),
                     [](const Object& object) { return object.staging && object.transfers > 0; });
}

Error TierManager::Impl::no_room(const Object& object, Tier tier) const {
  const Pool& from = *pools_[static_cast<std::size_t>(tier)];
  std::string holders;
  std::size_t named = 0;
  for (const Object* other : copies(tier)) {
    if (++named > 4) continue;
    holders += fmt::format("{}'{}' ({} bytes, {})", named > 1 ? ", " : "", other->spec->name, other->padded.value,
                           other->at(tier).leases > 0 ? "leased" : name_of(other->at(tier).residency.state()));
  }
  if (named > 4) holders += fmt::format(" and {} more", named - 4);
  const Bytes largest = from.largest_free();
  return {.code = ErrorCode::kDoesNotFit,
          .message = fmt::format("{} tier: no room for '{}' of {} bytes: pool of {} bytes, {} free, largest run {}; "
                                 "held by {}",
                                 name_of(tier), object.spec->name, object.padded.value, from.size().value,
                                 from.free().value, largest.value, named == 0 ? "nobody" : holders),
          .hint = fmt::format("raise the {} memory by {}", name_of(tier),
                              format_size(object.padded > largest ? object.padded - largest : object.padded))};
}

void TierManager::Impl::set_lookahead(Tier tier, std::span<const ObjectId> upcoming) {
  STRATA_CHECK(tier != Tier::kDisk, "nothing is fetched ahead into the disk");
  Session session(*this);
  list_upcoming(tier, upcoming);
  pump(session);
}

void TierManager::Impl::drop_unleased(Tier tier) {
  STRATA_CHECK(tier != Tier::kDisk, "there are no copies on the disk");
  Session session(*this);
  list_upcoming(tier, {});
  while (will_make_room(tier)) wait_for(session, Cause::kRoom, Lane::kDiskRead);
  while (Object* victim = pick_victim(tier, Eviction::kAny)) {
    victim->at(tier).residency.drop();
    remove_copy(*victim, tier);
  }
  changed_.notify_all();
}

void TierManager::Impl::list_upcoming(Tier tier, std::span<const ObjectId> upcoming) {
  auto& list = lookahead_[static_cast<std::size_t>(tier)];
  for (const ObjectId id : list) object_at(id).at(tier).rank = kUnranked;
  list.assign(upcoming.begin(), upcoming.end());
  std::uint32_t rank = 0;
  for (const ObjectId id : list) {
    Place& place = object_at(id).at(tier);
    if (place.rank == kUnranked) place.rank = rank;
    ++rank;
  }
  ++cycle_[static_cast<std::size_t>(tier)];
}

void TierManager::Impl::pump(Session& session) {
  pump_tier(session, Tier::kDevice);
  pump_tier(session, Tier::kHost);
}

void TierManager::Impl::pump_tier(Session& session, Tier tier) {
  if (!queue(tier).empty()) return;
  for (const ObjectId id : lookahead_[static_cast<std::size_t>(tier)]) {
    Object& object = objects_[id.value];
    if (serving_tier(object, tier) != tier || !object.at(tier).residency.is(ResidencyState::kAbsent)) continue;
    // A fetch that failed is left to the lease, which hears of it if it fails again.
    if (object.error || object.fetch_error || object.written_to() || object.pending != Object::Pending::kNone) continue;
    const auto from = source_for(object, tier);
    if (!from) continue;  // being written, or never was
    const Staging staging = needs_staging(*from, tier) ? Staging::kYes : Staging::kNo;
    if (staging == Staging::kYes && !queue(Tier::kHost).empty()) return;
    // In the declared order: what is needed later does not take the room of what is needed first.
    if (take_extents(object, tier, staging, Eviction::kUnlisted)) return;
    start_fetch(session, object, tier, *from, io::Urgency::kAhead);
  }
}

void TierManager::Impl::wait_for(Session& session, Cause cause, Lane lane) {
  const std::uint64_t start = now_ns();
  session.wait();
  const std::uint64_t waited = now_ns() - start;
  switch (cause) {
    case Cause::kTransfer: stats_.stall_late_ns[static_cast<std::size_t>(lane)] += waited; break;
    case Cause::kRoom: stats_.stall_no_room_ns += waited; break;
    case Cause::kOther: break;  // another lease: the callers' own doing
  }
}

}  // namespace strata::tiers
