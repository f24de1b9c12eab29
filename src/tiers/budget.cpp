#include "tiers/budget.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/check.hpp"
#include "base/size_text.hpp"

namespace strata::tiers {

Reservation::Reservation(Reservation&& other) noexcept
    : budget_(std::exchange(other.budget_, nullptr)),
      kind_(other.kind_),
      bytes_(std::exchange(other.bytes_, Bytes(0))) {}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this != &other) {
    release();
    budget_ = std::exchange(other.budget_, nullptr);
    kind_ = other.kind_;
    bytes_ = std::exchange(other.bytes_, Bytes(0));
  }
  return *this;
}

Reservation::~Reservation() {
  release();
}

void Reservation::release() noexcept {
  if (budget_ != nullptr) budget_->give_back(kind_, bytes_);
  budget_ = nullptr;
  bytes_ = Bytes(0);
}

Result<Reservation> Budget::reserve(Kind kind, Bytes bytes) {
  const std::lock_guard lock(mutex_);
  const Bytes left = limit_ - used_;
  if (bytes > left) {
    return fail(ErrorCode::kDoesNotFit,
                fmt::format("{} budget: {} bytes for {} asked for, {} of {} left", name_of(tier_), bytes.value,
                            name_of(kind), left.value, limit_.value),
                fmt::format("raise the {} budget by {}", name_of(tier_), format_size(bytes - left)));
  }
  used_ += bytes;
  by_kind_[static_cast<std::size_t>(kind)] += bytes;
  peak_ = std::max(peak_, used_);
  return Reservation(this, kind, bytes);
}

BudgetUse Budget::use() const {
  const std::lock_guard lock(mutex_);
  return {.limit = limit_, .used = used_, .peak = peak_, .by_kind = by_kind_};
}

void Budget::reset_peak() {
  const std::lock_guard lock(mutex_);
  peak_ = used_;
}

void Budget::give_back(Kind kind, Bytes bytes) noexcept {
  const std::lock_guard lock(mutex_);
  Bytes& of_kind = by_kind_[static_cast<std::size_t>(kind)];
  STRATA_CHECK(bytes <= of_kind, "more bytes given back than were reserved");
  of_kind -= bytes;
  used_ -= bytes;
}

}  // namespace strata::tiers
