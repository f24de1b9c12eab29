#include "tiers/pool.hpp"

#include <utility>

namespace strata::tiers {

Piece::Piece(Pool* pool, memory::Extent extent, Reservation reservation)
    : pool_(pool), extent_(extent), reservation_(std::move(reservation)) {}

Piece::Piece(Piece&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)), extent_(other.extent_), reservation_(std::move(other.reservation_)) {}

Piece& Piece::operator=(Piece&& other) noexcept {
  if (this != &other) {
    release();
    pool_ = std::exchange(other.pool_, nullptr);
    extent_ = other.extent_;
    reservation_ = std::move(other.reservation_);
  }
  return *this;
}

std::byte* Piece::data() const noexcept {
  return pool_ == nullptr ? nullptr : pool_->base_ + extent_.offset.value;
}

void Piece::release() noexcept {
  if (pool_ == nullptr) return;
  pool_->allocator_.free(extent_);
  pool_ = nullptr;
  reservation_ = Reservation();
}

Pool::Pool(Budget& budget, std::byte* base, Bytes size)
    : budget_(budget), base_(base), allocator_(size, kBlockAlignment) {}

std::optional<Piece> Pool::try_take(Kind kind, Bytes bytes) {
  if (bytes > largest_free()) return std::nullopt;
  auto reservation = budget_.reserve(kind, bytes);
  if (!reservation) return std::nullopt;  // others hold budget outside the pool; a lack of room like any other
  const auto extent = allocator_.try_allocate(bytes);
  if (!extent) return std::nullopt;
  return Piece(this, *extent, *std::move(reservation));
}

}  // namespace strata::tiers
