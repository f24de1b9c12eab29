#include "memory/extent_allocator.hpp"

#include <algorithm>

#include "base/check.hpp"

namespace strata::memory {

ExtentAllocator::ExtentAllocator(Bytes size, Bytes granule) : size_(size), granule_(granule) {
  STRATA_CHECK(granule.value > 0, "a granule has at least one byte");
  end_ = Bytes(round_down(size.value, granule.value));
  if (end_.value > 0) free_[0] = end_.value;
}

std::optional<Extent> ExtentAllocator::try_allocate(Bytes size) {
  if (size > end_) return std::nullopt;
  const std::uint64_t need = rounded(size);
  // The largest run that is left over decides; among equals the tightest run, then the lowest offset.
  std::uint64_t largest = 0;
  std::uint64_t second = 0;
  for (const auto& [offset, run] : free_) {
    if (run > largest) {
      second = largest;
      largest = run;
    } else {
      second = std::max(second, run);
    }
  }
  auto best = free_.end();
  std::uint64_t best_left = 0;
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    if (it->second < need) continue;
    const std::uint64_t others = it->second == largest ? second : largest;
    const std::uint64_t left = std::max(others, it->second - need);
    if (best == free_.end() || left > best_left || (left == best_left && it->second < best->second)) {
      best = it;
      best_left = left;
    }
  }
  if (best == free_.end()) return std::nullopt;
  const std::uint64_t start = best->first;
  const std::uint64_t run = best->second;
  // A run at the end of the space is eaten from its end, so that two live extents grow from the two ends.
  const bool from_end = start + run == end_.value && start != 0;
  const std::uint64_t offset = from_end ? start + run - need : start;
  free_.erase(best);
  if (run > need) {
    if (from_end) {
      free_[start] = run - need;
    } else {
      free_[start + need] = run - need;
    }
  }
  allocated_[offset] = need;
  used_ += Bytes(need);
  return Extent{Offset(offset), Bytes(need)};
}

void ExtentAllocator::free(const Extent& extent) {
  const auto found = allocated_.find(extent.offset.value);
  STRATA_CHECK(found != allocated_.end(), "an extent is freed once, by its own offset");
  STRATA_CHECK(found->second == rounded(extent.size), "an extent is freed whole");
  std::uint64_t offset = found->first;
  std::uint64_t run = found->second;
  used_ -= Bytes(run);
  allocated_.erase(found);
  const auto next = free_.lower_bound(offset);
  if (next != free_.end() && offset + run == next->first) {
    run += next->second;
    free_.erase(next);
  }
  const auto after = free_.lower_bound(offset);
  if (after != free_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == offset) {
      before->second += run;
      return;
    }
  }
  free_[offset] = run;
}

Bytes ExtentAllocator::largest_free() const {
  std::uint64_t largest = 0;
  for (const auto& [offset, run] : free_) largest = std::max(largest, run);
  return Bytes(largest);
}

}  // namespace strata::memory
