// A tier's memory: where extents are cut from, each under a reservation of the tier's budget.
#pragma once

#include <cstddef>
#include <optional>

#include "memory/extent_allocator.hpp"
#include "strata/types.hpp"
#include "tiers/budget.hpp"

namespace strata::tiers {

class Pool;

/// Bytes of a pool. Move-only; the destructor gives them back, so it runs where the pool may be touched.
class Piece {
 public:
  Piece() = default;
  Piece(Piece&& other) noexcept;
  Piece& operator=(Piece&& other) noexcept;
  ~Piece() { release(); }

  [[nodiscard]] explicit operator bool() const noexcept { return pool_ != nullptr; }
  [[nodiscard]] std::byte* data() const noexcept;
  void release() noexcept;

 private:
  friend class Pool;
  Piece(Pool* pool, memory::Extent extent, Reservation reservation);

  Pool* pool_ = nullptr;
  memory::Extent extent_;
  Reservation reservation_;
};

/// Not thread-safe. Outlives its pieces; `budget` and the memory outlive the pool.
class Pool {
 public:
  Pool(Budget& budget, std::byte* base, Bytes size);

  /// Empty when no free run is long enough or the budget has no room.
  [[nodiscard]] std::optional<Piece> try_take(Kind kind, Bytes bytes);

  [[nodiscard]] Bytes size() const { return allocator_.size(); }
  [[nodiscard]] Bytes free() const { return allocator_.size() - allocator_.used(); }
  [[nodiscard]] Bytes largest_free() const { return allocator_.largest_free(); }

 private:
  friend class Piece;

  Budget& budget_;
  std::byte* const base_;
  memory::ExtentAllocator allocator_;
};

}  // namespace strata::tiers
