// Transfers: how an object's bytes get from tier to tier, and what their end means.
#include <utility>

#include <fmt/format.h>

#include "base/check.hpp"
#include "tiers/tier_manager_impl.hpp"

namespace strata::tiers {

void TierManager::Impl::Session::start_later(Move& move) {
  move.next = nullptr;
  (last_ != nullptr ? last_->next : first_) = &move;
  last_ = &move;
}

void TierManager::Impl::Session::flush_starts() {
  Move* move = std::exchange(first_, nullptr);
  last_ = nullptr;
  lock_.unlock();
  while (move != nullptr) {
    // Once the last one has started, it may complete and the manager may be gone: only locals are used here.
    Move* const next = move->next;
    impl_.mover_.start(*move);
    move = next;
  }
}

void TierManager::Impl::Session::wait() {
  if (first_ == nullptr) {
    impl_.changed_.wait(lock_);
  } else {
    flush_starts();
    lock_.lock();
  }
}

void TierManager::Impl::refresh_home(Object& object) {
  if (object.spec->home != Tier::kDisk || object.spec->backing != Backing::kStore) return;
  Residency& home = object.home().residency;
  if (home.is(ResidencyState::kUndefined) && store_->newest(object.spec->store_id)) home.appear();
}

std::optional<Tier> TierManager::Impl::source_for(Object& object, Tier to) {
  const Tier other = to == Tier::kDevice ? Tier::kHost : Tier::kDevice;
  if (object.at(other).residency.readable()) return other;
  refresh_home(object);
  if (object.spec->home == Tier::kDisk && object.home().residency.readable()) return Tier::kDisk;
  return std::nullopt;
}

Error TierManager::Impl::unwritten(const Object& object) const {
  const bool stored = object.spec->backing == Backing::kStore;
  return {.code = stored ? ErrorCode::kStore : ErrorCode::kInternal,
          .message = fmt::format("object '{}' is read before it was ever written", object.spec->name),
          .hint = stored ? "initialise it, or restore it from the state store" : ""};
}

bool TierManager::Impl::needs_staging(Tier a, Tier b) const {
  return !shared_ && ((a == Tier::kDisk && b == Tier::kDevice) || (a == Tier::kDevice && b == Tier::kDisk));
}

Move& TierManager::Impl::new_move(Object& object, Purpose purpose, Tier from, Tier to) {
  Move* move = free_moves_;
  if (move != nullptr) {
    free_moves_ = move->next;
  } else {
    move = &moves_.emplace_back();
  }
  move->object = &object;
  move->purpose = purpose;
  Transfer& transfer = *move;
  transfer.from = from;
  transfer.to = to;
  transfer.source = object.at(from).data;
  transfer.destination = object.at(to).data;
  transfer.staging = needs_staging(from, to) ? object.staging.data() : nullptr;
  STRATA_CHECK(!needs_staging(from, to) || transfer.staging != nullptr, "a staged transfer without staging");
  transfer.length = object.padded;
  transfer.payload = object.spec->bytes;
  transfer.urgency = io::Urgency::kAhead;
  transfer.on_complete = &Impl::on_transfer;
  transfer.context = this;
  move->next = nullptr;
  return *move;
}

void TierManager::Impl::count_transfer(Object& object, Lane lane) {
  ++object.transfers;
  ++transfers_;
  object.late_lane = lane;
}

void TierManager::Impl::start_fetch(Session& session, Object& object, Tier to, Tier from, io::Urgency urgency) {
  Place& place = object.at(to);
  add_copy(object, to);
  place.residency.begin_fetch();
  place.use = urgency == io::Urgency::kAhead ? Place::Use::kAheadUnused : Place::Use::kUsed;
  if (place.evicted_in_cycle == cycle_[static_cast<std::size_t>(to)]) {
    stats_.refetched_bytes += object.spec->bytes.value;
  }
  if (from != Tier::kDisk) ++object.at(from).sources;
  count_transfer(object, Mover::bottleneck(from, to));
  Move& move = new_move(object, Purpose::kFetch, from, to);
  move.urgency = urgency;
  if (from == Tier::kDisk) move.disk = disk_to_read(object);
  session.start_later(move);
}

DiskExtent TierManager::Impl::disk_to_read(const Object& object) const {
  if (object.spec->backing == Backing::kScratch) return object.scratch;
  const auto newest = store_->newest(object.spec->store_id);
  STRATA_CHECK(newest.has_value(), fmt::format("the state store lost object '{}'", object.spec->name));
  return *newest;
}

void TierManager::Impl::write_out(Session& session, Object& object, Tier from, Purpose purpose) {
  const Tier to = purpose == Purpose::kSnapshot ? Tier::kDisk : object.spec->home;
  count_transfer(object, Mover::bottleneck(from, to));
  if (object.spec->backing == Backing::kStore) ++writes_;
  changed_.notify_all();  // the bytes can be read again
  Result<DiskExtent> disk = object.scratch;
  if (to == Tier::kDisk && object.spec->backing == Backing::kStore) {
    disk = session.without_lock([&] { return store_->begin_write(object.spec->store_id); });
  }
  if (!disk) {
    --object.transfers;
    --transfers_;
    end_of_write(object, from, purpose, std::move(disk).error());
    settle(session, object);
    return;
  }
  Move& move = new_move(object, purpose, from, to);
  move.disk = *disk;
  session.start_later(move);
}

void TierManager::Impl::on_transfer(Transfer& transfer) noexcept {
  static_cast<Impl*>(transfer.context)->complete(static_cast<Move&>(transfer));
}

void TierManager::Impl::complete(Move& move) noexcept {
  Object& object = *move.object;
  const Purpose purpose = move.purpose;
  const Tier from = move.from;
  const Tier to = move.to;
  const std::optional<Error> error = std::move(move.error);
  if (to == Tier::kDisk && object.spec->backing == Backing::kStore && !error) {
    store_->end_write(object.spec->store_id);
  }
  Session session(*this);
  move.next = free_moves_;
  free_moves_ = &move;
  --object.transfers;
  --transfers_;
  switch (purpose) {
    case Purpose::kFetch: end_of_fetch(object, from, to, error); break;
    case Purpose::kRestore: end_of_restore(object, error); break;
    case Purpose::kWriteBack:
    case Purpose::kSnapshot: end_of_write(object, from, purpose, error); break;
  }
  settle(session, object);
}

void TierManager::Impl::end_of_fetch(Object& object, Tier from, Tier to, const std::optional<Error>& error) {
  Place& place = object.at(to);
  if (from != Tier::kDisk) --object.at(from).sources;
  if (needs_staging(from, to)) object.staging.release();
  if (!error) {
    place.residency.end_fetch();
    place.last_use = ++clock_;
    object.fetch_error.reset();
    return;
  }
  place.residency.fail_fetch();
  place.use = Place::Use::kUsed;
  remove_copy(object, to);
  object.fetch_error = error;
  ++object.failed_fetches;
}

void TierManager::Impl::end_of_restore(Object& object, const std::optional<Error>& error) {
  object.staging.release();
  if (!error) {
    object.home().residency.end_fetch();
    object.fetch_error.reset();
    return;
  }
  object.home().residency.fail_receive();
  object.fetch_error = error;
  ++object.failed_fetches;
}

void TierManager::Impl::end_of_write(Object& object, Tier from, Purpose purpose, const std::optional<Error>& error) {
  const bool stored = object.spec->backing == Backing::kStore;
  if (stored) --writes_;
  object.staging.release();
  // After a failure the bytes here are still whole, and a reader may have them; the error keeps new ones away.
  object.at(from).residency.end_write_back();
  if (purpose == Purpose::kWriteBack) {
    if (error) {
      object.home().residency.fail_receive();
    } else {
      object.home().residency.end_fetch();
    }
  }
  if (!error) return;
  object.error = error;
  if (stored && !write_error_) write_error_ = error;
}

void TierManager::Impl::settle(Session& session, Object& object) {
  if (object.pending == Object::Pending::kDiscard && object.transfers == 0) apply_discard(object);
  pump(session);
  changed_.notify_all();
}

Status TierManager::Impl::snapshot(ObjectId id) {
  Session session(*this);
  Object& object = object_at(id);
  STRATA_CHECK(object.spec->home != Tier::kDisk && object.spec->backing == Backing::kStore,
               fmt::format("object '{}' can't be snapshotted", object.spec->name));
  const Tier tier = object.spec->home;
  const Staging staging = needs_staging(tier, Tier::kDisk) ? Staging::kYes : Staging::kNo;
  RoomTicket ticket(*this);
  for (;;) {
    if (object.error) return tl::unexpected(*object.error);
    if (object.written_to() || object.home().residency.in_flight() || object.pending != Object::Pending::kNone) {
      STRATA_CHECK(!object.written_to() || !held_by_this_thread(object),
                   fmt::format("object '{}' is snapshotted by the thread that writes it", object.spec->name));
      ticket.leave();
      wait_for(session, object.written_to() ? Cause::kOther : Cause::kTransfer, object.late_lane);
      continue;
    }
    if (!object.home().residency.readable()) return tl::unexpected(unwritten(object));
    if (staging == Staging::kNo) break;
    STRATA_ASSIGN(const Room room, take_or_wait(session, ticket, object, std::nullopt, staging));
    if (room == Room::kTaken) break;
  }
  object.home().residency.begin_snapshot();
  write_out(session, object, tier, Purpose::kSnapshot);
  return {};
}

Status TierManager::Impl::restore(ObjectId id) {
  Session session(*this);
  Object& object = object_at(id);
  STRATA_CHECK(object.spec->home != Tier::kDisk && object.spec->backing == Backing::kStore,
               fmt::format("object '{}' can't be restored", object.spec->name));
  const Staging staging = needs_staging(Tier::kDisk, object.spec->home) ? Staging::kYes : Staging::kNo;
  RoomTicket ticket(*this);
  for (;;) {
    if (!object.holders.empty() || object.transfers > 0) {
      STRATA_CHECK(!held_by_this_thread(object),
                   fmt::format("object '{}' is restored by a thread that leases it", object.spec->name));
      ticket.leave();
      wait_for(session, object.holders.empty() ? Cause::kTransfer : Cause::kOther, object.late_lane);
      continue;
    }
    if (!store_->newest(object.spec->store_id)) return tl::unexpected(unwritten(object));
    if (staging == Staging::kNo) break;
    STRATA_ASSIGN(const Room room, take_or_wait(session, ticket, object, std::nullopt, staging));
    if (room == Room::kTaken) break;
  }
  drop_copies(object, std::nullopt);
  object.error.reset();  // of a version that is given up
  const std::uint64_t failed_before = object.failed_fetches;
  object.home().residency.begin_receive();
  count_transfer(object, Lane::kDiskRead);
  Move& move = new_move(object, Purpose::kRestore, Tier::kDisk, object.spec->home);
  move.disk = disk_to_read(object);
  move.urgency = io::Urgency::kDemand;
  session.start_later(move);
  while (object.home().residency.is(ResidencyState::kFetching)) {
    wait_for(session, Cause::kTransfer, Lane::kDiskRead);
  }
  return failure(object, failed_before);
}

Status TierManager::Impl::flush() {
  Session session(*this);
  while (writes_ > 0) session.wait();
  if (auto error = std::exchange(write_error_, std::nullopt)) return tl::unexpected(*std::move(error));
  return {};
}

}  // namespace strata::tiers
