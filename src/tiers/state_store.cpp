#include "tiers/state_store.hpp"

#include <utility>

#include <fmt/format.h>

#include "base/check.hpp"
#include "base/size_text.hpp"
#include "tiers/state_store_impl.hpp"

namespace strata::tiers {

StateStore::Impl::Impl(StoreParts parts)
    : options_(std::move(parts.options)),
      objects_(std::move(parts.objects)),
      layout_(std::move(parts.layout)),
      files_(std::move(parts.files)),
      log_(std::move(parts.log)),
      ledger_(options_.slots, std::move(parts.found.table), parts.reuse),
      durable_{parts.found.root.generation, parts.found.root.step, std::move(parts.found.metadata)},
      mark_(parts.found.root.state == RootState::kDirty ? Mark::kDirty : Mark::kClean),
      scratch_used_(files_.size()),
      thread_([this] { run(); }) {}

StateStore::Impl::~Impl() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = Closing::kYes;
  }
  changed_.notify_all();
  thread_.join();
}

DiskExtent StateStore::Impl::extent(StoreId id, std::uint32_t slot) const {
  const ObjectPlace& place = layout_->places[id.value];
  return {place.path, files_[place.path.value], place.slot(slot), place.bytes};
}

Result<DiskExtent> StateStore::Impl::begin_write(StoreId id) {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (failure_) return tl::unexpected(*failure_);
    if (in_place() && mark_ == Mark::kClean && activity_ == Activity::kNone) STRATA_TRY(mark_dirty(lock));
    if (!in_place() || mark_ == Mark::kDirty) {
      if (const auto slot = ledger_.begin(id)) return extent(id, *slot);
    }
    changed_.wait(lock);
  }
}

Status StateStore::Impl::mark_dirty(std::unique_lock<std::mutex>& lock) {
  activity_ = Activity::kMarking;
  lock.unlock();
  const Status status = log_->mark_dirty();
  lock.lock();
  activity_ = Activity::kNone;
  if (status) {
    mark_ = Mark::kDirty;
  } else {
    stop("the mark that an update in place begins", status.error());
  }
  changed_.notify_all();
  return failure_ ? Status(tl::unexpected(*failure_)) : Status();
}

Status StateStore::Impl::commit(std::uint64_t step, std::string metadata) {
  if (metadata.size() > kMetadataMax.value) {
    return fail(ErrorCode::kUsage, fmt::format("{} of metadata for step {}", format_size(Bytes(metadata.size())), step),
                fmt::format("a generation has room for {}", format_size(kMetadataMax)));
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return activity_ == Activity::kNone || failure_; });
  if (failure_) return tl::unexpected(*failure_);
  if (const auto open = ledger_.blocks_commit()) {
    return fail(ErrorCode::kInternal,
                fmt::format("commit of step {} while '{}' is being overwritten", step, objects_[open->value].name));
  }
  const GenerationTable& table = ledger_.start_commit();
  next_ = Commit{{table.generation, step, std::move(metadata)}, table};
  activity_ = Activity::kCommitting;
  changed_.notify_all();
  return {};
}

void StateStore::Impl::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return next_ || closing_ == Closing::kYes; });
    if (!next_) return;
    Commit commit = *std::exchange(next_, std::nullopt);
    lock.unlock();
    Status status = log_->commit(std::move(commit.table), commit.record.step, commit.record.metadata);
    lock.lock();
    finish(std::move(commit), std::move(status));
  }
}

void StateStore::Impl::finish(Commit commit, Status status) {
  activity_ = Activity::kNone;
  if (status) {
    ledger_.finish_commit();
    durable_ = std::move(commit.record);
    mark_ = Mark::kClean;
  } else {
    stop(fmt::format("the commit of step {}", commit.record.step), status.error());
  }
  changed_.notify_all();
}

void StateStore::Impl::stop(std::string what, const Error& cause) {
  failure_ = Error{.code = cause.code,
                   .os_errno = cause.os_errno,
                   .message = fmt::format("{} failed: {}", what, cause.message),
                   .hint = fmt::format("{}{}nothing after step {} is durable: mend the disk and resume", cause.hint,
                                       cause.hint.empty() ? "" : "; ", durable_.step)};
}

Status StateStore::Impl::wait_durable() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return activity_ != Activity::kCommitting; });
  return failure_ ? Status(tl::unexpected(*failure_)) : Status();
}

Status StateStore::Impl::roll_back() {
  const std::lock_guard lock(mutex_);
  if (in_place()) {
    return fail(ErrorCode::kUsage, "a store that updates in place cannot roll back",
                "set strata.durable_steps to true");
  }
  ledger_.roll_back();
  changed_.notify_all();
  return {};
}

Result<DiskExtent> StateStore::Impl::allocate_scratch(Bytes bytes) {
  const Bytes padded = round_up(bytes, kBlockAlignment);
  const std::lock_guard lock(mutex_);
  const auto room = [this](std::size_t i) { return layout_->paths[i].scratch.bytes - scratch_used_[i]; };
  std::size_t best = 0;
  for (std::size_t i = 1; i < files_.size(); ++i) {
    if (room(i) > room(best)) best = i;
  }
  if (room(best) < padded) {
    return fail(ErrorCode::kDoesNotFit,
                fmt::format("{} of scratch; the freest path has {} of {} left", format_size(padded),
                            format_size(room(best)), format_size(layout_->paths[best].scratch.bytes)),
                "give the run more disk space");
  }
  const DiskExtent piece{PathId(static_cast<std::uint32_t>(best)), files_[best],
                         layout_->paths[best].scratch.offset + scratch_used_[best], padded};
  scratch_used_[best] += padded;
  return piece;
}

StateStore::StateStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
StateStore::~StateStore() = default;

Bytes StateStore::footprint(std::span<const StoreObject> objects, std::uint32_t slots, Bytes scratch,
                            const ScratchSpread& spread) {
  return plan_layout({objects, slots, scratch, spread}).total();
}

std::optional<DiskExtent> StateStore::newest(StoreId id) const {
  const std::lock_guard lock(impl_->mutex_);
  const auto slot = impl_->ledger_.newest(id);
  return slot ? std::optional(impl_->extent(id, *slot)) : std::nullopt;
}

Result<DiskExtent> StateStore::begin_write(StoreId id) {
  return impl_->begin_write(id);
}

void StateStore::end_write(StoreId id) {
  const std::lock_guard lock(impl_->mutex_);
  impl_->ledger_.end(id);
}

Status StateStore::commit(std::uint64_t step, std::string metadata) {
  return impl_->commit(step, std::move(metadata));
}

Status StateStore::wait_durable() {
  return impl_->wait_durable();
}

CommitRecord StateStore::durable() const {
  const std::lock_guard lock(impl_->mutex_);
  return impl_->durable_;
}

Status StateStore::roll_back() {
  return impl_->roll_back();
}
Result<DiskExtent> StateStore::allocate_scratch(Bytes bytes) {
  return impl_->allocate_scratch(bytes);
}
std::span<const StoreObject> StateStore::objects() const {
  return impl_->objects_;
}

}  // namespace strata::tiers
