#include "prefetch/lookahead.hpp"

#include <algorithm>

namespace strata::prefetch {

void Lookahead::use(ObjectId object) {
  if (recording_.empty() || recording_.back() != object) recording_.push_back(object);
  if (order_.empty()) return;
  if (position_ > 0 && order_[position_ - 1] == object) return;  // the same visit again
  auto found = std::find(order_.begin() + static_cast<std::ptrdiff_t>(position_), order_.end(), object);
  if (found == order_.end()) found = std::find(order_.begin(), order_.end(), object);
  if (found == order_.end()) return;
  position_ = static_cast<std::size_t>(found - order_.begin()) + 1;
  declare();
}

void Lookahead::declare() {
  std::vector<ObjectId> upcoming;
  Bytes ahead;
  for (std::size_t i = position_; i < order_.size() && upcoming.size() < options_.objects; ++i) {
    const ObjectId object = order_[i];
    if (std::find(upcoming.begin(), upcoming.end(), object) != upcoming.end()) continue;
    ahead += tiers_.objects()[object.value].bytes;
    if (!upcoming.empty() && ahead > options_.bytes) break;
    upcoming.push_back(object);
  }
  tiers_.set_lookahead(options_.tier, upcoming);
}

void Lookahead::end_step(Continue next) {
  if (!recording_.empty()) order_ = std::move(recording_);
  recording_.clear();
  position_ = 0;
  if (next == Continue::kYes) declare();
}

void Lookahead::abort() {
  recording_.clear();
  position_ = 0;
  clear();
}

void Lookahead::clear() { tiers_.set_lookahead(options_.tier, {}); }

}  // namespace strata::prefetch
