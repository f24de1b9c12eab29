#include "tiers/tier_manager.hpp"

#include <utility>

#include <fmt/format.h>

#include "base/check.hpp"
#include "base/size_text.hpp"
#include "tiers/tier_manager_impl.hpp"

namespace strata::tiers {
namespace {

Bytes padded(const ObjectSpec& spec) {
  return round_up(spec.bytes, kBlockAlignment);
}

Bytes homes_in(Tier tier, std::span<const ObjectSpec> objects) {
  Bytes sum;
  for (const ObjectSpec& spec : objects) {
    if (spec.home == tier) sum += padded(spec);
  }
  return sum;
}

Status check_fit(Tier tier, Bytes given, std::span<const ObjectSpec> objects) {
  const Bytes needed = homes_in(tier, objects);
  if (needed <= given) return {};
  return fail(ErrorCode::kDoesNotFit,
              fmt::format("{} tier: objects at home there need {} bytes, {} bytes are given", name_of(tier),
                          needed.value, given.value),
              fmt::format("raise the {} memory by {} (to {}), or give some of them a home farther away", name_of(tier),
                          format_size(needed - given), format_size(needed)));
}

Status check_specs(std::span<const ObjectSpec> objects, const io::Engine* engine, const StateStore* store) {
  for (const ObjectSpec& spec : objects) {
    STRATA_CHECK(spec.bytes.value > 0, "an object without bytes");
    STRATA_CHECK((spec.home == Tier::kDisk) || spec.backing != Backing::kScratch, "scratch backs disk homes only");
    STRATA_CHECK(spec.home != Tier::kDisk || spec.backing != Backing::kNone, "a disk home needs a backing");
    if (spec.backing == Backing::kNone) continue;
    STRATA_CHECK(engine != nullptr && store != nullptr, "an object on disk needs an I/O engine and a state store");
    if (spec.backing != Backing::kStore) continue;
    const auto stored = store->objects();
    if (spec.store_id.value >= stored.size() || stored[spec.store_id.value].bytes != spec.bytes) {
      return fail(ErrorCode::kInternal,
                  fmt::format("object '{}' of {} bytes does not match object {} of the state store", spec.name,
                              spec.bytes.value, spec.store_id.value));
    }
  }
  return {};
}

Result<memory::Arena> map_host(const TierManagerOptions& options) {
  if (options.host_budget.value == 0) return memory::Arena();
  return memory::Arena::map({.size = options.host_budget, .page_lock = options.page_lock});
}

}  // namespace

TierManager::Impl::Impl(const TierManagerOptions& options, std::span<const ObjectSpec> specs, device::Device& device,
                        io::Engine* engine, StateStore* store, memory::Arena host_arena, Bytes disk_bytes)
    : specs_(specs.begin(), specs.end()),
      device_(device),
      store_(store),
      shared_(device.addressing() == device::Addressing::kShared),
      host_arena_(std::move(host_arena)),
      budgets_{Budget(Tier::kDevice, device.arena_size()), Budget(Tier::kHost, options.host_budget),
               Budget(Tier::kDisk, disk_bytes)},
      mover_(device, engine) {}

Status TierManager::Impl::place_homes(const TierManagerOptions& options) {
  const std::array<std::byte*, 2> base{device_.arena(), host_arena_.data()};
  const std::array<Bytes, 2> size{options.device_pool, options.host_budget};
  std::array<Bytes, 2> taken{};
  home_reservations_.reserve(specs_.size());
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    const ObjectSpec& spec = specs_[i];
    Object& object = objects_.emplace_back();
    object.spec = &spec;
    object.id = ObjectId(static_cast<std::uint32_t>(i));
    object.padded = padded(spec);
    STRATA_ASSIGN(auto reservation, budget(spec.home).reserve(spec.kind, object.padded));
    home_reservations_.push_back(std::move(reservation));
    object.home().residency = Residency(ResidencyState::kUndefined);
    if (spec.home == Tier::kDisk) {
      if (spec.backing == Backing::kScratch) {
        STRATA_ASSIGN(object.scratch, store_->allocate_scratch(object.padded));
      }
      refresh_home(object);
    } else {
      const auto tier = static_cast<std::size_t>(spec.home);
      object.home().data = base[tier] + taken[tier].value;
      taken[tier] += object.padded;
    }
  }
  for (std::size_t tier = 0; tier < pools_.size(); ++tier) {
    const Bytes left(round_down((size[tier] - taken[tier]).value, kBlockAlignment.value));
    pools_[tier].emplace(budgets_[tier], base[tier] + taken[tier].value, left);
    copies_[tier].reserve(specs_.size());
  }
  return {};
}

Result<std::unique_ptr<TierManager>> TierManager::create(const TierManagerOptions& options,
                                                         std::span<const ObjectSpec> objects, device::Device& device,
                                                         io::Engine* engine, StateStore* store) {
  if (options.device_pool > device.arena_size()) {
    return fail(ErrorCode::kDoesNotFit,
                fmt::format("device tier: a pool of {} bytes in an arena of {} bytes", options.device_pool.value,
                            device.arena_size().value),
                fmt::format("raise the device memory to {}", format_size(options.device_pool)));
  }
  STRATA_TRY(check_specs(objects, engine, store));
  STRATA_TRY(check_fit(Tier::kDevice, options.device_pool, objects));
  STRATA_TRY(check_fit(Tier::kHost, options.host_budget, objects));
  STRATA_ASSIGN(auto arena, map_host(options));
  auto impl =
      std::make_unique<Impl>(options, objects, device, engine, store, std::move(arena), homes_in(Tier::kDisk, objects));
  STRATA_TRY(impl->place_homes(options));
  return std::unique_ptr<TierManager>(new TierManager(std::move(impl)));
}

TierManager::TierManager(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

TierManager::~TierManager() {
  Impl::Session session(*impl_);
  for (auto& list : impl_->lookahead_) list.clear();
  while (impl_->transfers_ > 0) session.wait();
  for (const Object& object : impl_->objects_) {
    STRATA_CHECK(object.holders.empty(), fmt::format("object '{}' is still leased", object.spec->name));
  }
}

Result<ReadLease> TierManager::read(ObjectId object, Tier tier) {
  return impl_->read(*this, object, tier);
}

Result<WriteLease> TierManager::write(ObjectId object, Tier tier, Content content) {
  return impl_->write(*this, object, tier, content);
}

void TierManager::set_lookahead(Tier tier, std::span<const ObjectId> upcoming) {
  impl_->set_lookahead(tier, upcoming);
}

void TierManager::drop_unleased(Tier tier) {
  impl_->drop_unleased(tier);
}

void TierManager::discard(ObjectId object) {
  impl_->discard(object);
}
Status TierManager::snapshot(ObjectId object) {
  return impl_->snapshot(object);
}
Status TierManager::restore(ObjectId object) {
  return impl_->restore(object);
}
Status TierManager::flush() {
  return impl_->flush();
}

Budget& TierManager::budget(Tier tier) {
  return impl_->budget(tier);
}
std::span<const ObjectSpec> TierManager::objects() const {
  return impl_->specs_;
}
const std::vector<std::string>& TierManager::shortfalls() const {
  return impl_->host_arena_.shortfalls();
}

TierStats TierManager::stats() const {
  const LaneTotals lanes = impl_->mover_.totals();
  const std::lock_guard lock(impl_->mutex_);
  TierStats stats = impl_->stats_;
  stats.bytes = lanes.bytes;
  stats.busy_ns = lanes.busy_ns;
  return stats;
}

ReadLease::ReadLease(ReadLease&& other) noexcept
    : manager_(std::exchange(other.manager_, nullptr)),
      object_(other.object_),
      tier_(other.tier_),
      holder_(other.holder_),
      bytes_(std::exchange(other.bytes_, {})) {}

ReadLease& ReadLease::operator=(ReadLease&& other) noexcept {
  if (this != &other) {
    release();
    manager_ = std::exchange(other.manager_, nullptr);
    object_ = other.object_;
    tier_ = other.tier_;
    holder_ = other.holder_;
    bytes_ = std::exchange(other.bytes_, {});
  }
  return *this;
}

void ReadLease::release() noexcept {
  bytes_ = {};
  if (auto* manager = std::exchange(manager_, nullptr)) manager->impl_->end_read(object_, tier_, holder_);
}

WriteLease::WriteLease(WriteLease&& other) noexcept
    : manager_(std::exchange(other.manager_, nullptr)),
      object_(other.object_),
      tier_(other.tier_),
      holder_(other.holder_),
      bytes_(std::exchange(other.bytes_, {})) {}

WriteLease& WriteLease::operator=(WriteLease&& other) noexcept {
  if (this != &other) {
    release();
    manager_ = std::exchange(other.manager_, nullptr);
    object_ = other.object_;
    tier_ = other.tier_;
    holder_ = other.holder_;
    bytes_ = std::exchange(other.bytes_, {});
  }
  return *this;
}

void WriteLease::release() noexcept {
  bytes_ = {};
  if (auto* manager = std::exchange(manager_, nullptr)) manager->impl_->end_write(object_, tier_, holder_);
}

void WriteLease::abandon() noexcept {
  bytes_ = {};
  if (auto* manager = std::exchange(manager_, nullptr)) manager->impl_->abandon(object_, tier_, holder_);
}

}  // namespace strata::tiers
