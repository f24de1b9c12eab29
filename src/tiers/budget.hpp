// Hard byte budget of one tier: a reservation precedes every byte.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

#include "base/result.hpp"
#include "strata/types.hpp"

namespace strata::tiers {

class Budget;

/// Move-only; gives its bytes back when destroyed.
class Reservation {
 public:
  Reservation() = default;
  Reservation(Reservation&& other) noexcept;
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation();

  [[nodiscard]] Bytes bytes() const noexcept { return bytes_; }
  [[nodiscard]] Kind kind() const noexcept { return kind_; }

 private:
  friend class Budget;
  Reservation(Budget* budget, Kind kind, Bytes bytes) : budget_(budget), kind_(kind), bytes_(bytes) {}
  void release() noexcept;

  Budget* budget_ = nullptr;
  Kind kind_ = Kind::kOther;
  Bytes bytes_;
};

struct BudgetUse {
  Bytes limit;
  Bytes used;
  Bytes peak;  ///< since the last reset_peak()
  std::array<Bytes, kKindCount> by_kind{};
};

/// Thread-safe. Must outlive its reservations.
class Budget {
 public:
  Budget(Tier tier, Bytes limit) : tier_(tier), limit_(limit) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  /// kDoesNotFit names the tier, the kind, what was asked for and what is left.
  [[nodiscard]] Result<Reservation> reserve(Kind kind, Bytes bytes);
  [[nodiscard]] BudgetUse use() const;
  /// Starts a new high-water mark (metrics report the peak inside each step).
  void reset_peak();
  [[nodiscard]] Tier tier() const { return tier_; }

 private:
  friend class Reservation;
  void give_back(Kind kind, Bytes bytes) noexcept;

  const Tier tier_;
  const Bytes limit_;
  mutable std::mutex mutex_;
  Bytes used_;
  Bytes peak_;
  std::array<Bytes, kKindCount> by_kind_{};
};

}  // namespace strata::tiers
