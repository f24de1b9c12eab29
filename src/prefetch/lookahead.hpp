// The first prefetcher: looks ahead a bounded number of objects in the order that the step before had.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "strata/types.hpp"
#include "tiers/tier_manager.hpp"

namespace strata::prefetch {

struct LookaheadOptions {
  Tier tier = Tier::kDevice;
  std::size_t objects = 2;  ///< declared ahead of the current one
  Bytes bytes{50'000'000};  ///< bound on what is ahead, but at least one object
};

/// Records the order in which objects are used and, from the second step on, declares the next ones to the tier manager
/// at each use. A use out of order costs nothing but its own fetch: the position is found again in the recorded order.
/// Not thread-safe.
class Lookahead {
 public:
  Lookahead(tiers::TierManager& tiers, const LookaheadOptions& options) : tiers_(tiers), options_(options) {}

  /// `object` is about to be read.
  void use(ObjectId object);
  /// The step is complete: its order predicts the next one's. Declares that one's first objects when `Continue::kYes`.
  enum class Continue : std::uint8_t { kNo, kYes };
  void end_step(Continue next);
  /// The step was given up: nothing is learnt from it.
  void abort();
  /// Nothing is ahead (the objects are about to change).
  void clear();

  [[nodiscard]] std::span<const ObjectId> order() const { return order_; }

 private:
  void declare();

  tiers::TierManager& tiers_;
  LookaheadOptions options_;
  std::vector<ObjectId> order_;      // of the last complete step
  std::vector<ObjectId> recording_;  // of this step
  std::size_t position_ = 0;         // in order_, one past the last use
};

}  // namespace strata::prefetch
