// Places extents of any size in a linear space (an arena, a file). Pure bookkeeping.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

#include "strata/types.hpp"

namespace strata::memory {

struct Extent {
  Offset offset;
  Bytes size;
  auto operator<=>(const Extent&) const = default;
};

/// Sizes are rounded up to `granule`; offsets are multiples of it, and a rest of `size` below one granule is never
/// given. Placement: in the run, and at that end of it, that leave the largest run free, so that two live extents grow
/// from the two ends and never block a third in the middle: as long as no more than two are alive, whatever fits by
/// size fits. Deterministic. Not thread-safe. Cost: O(free runs) to allocate, O(log n) to free.
class ExtentAllocator {
 public:
  ExtentAllocator(Bytes size, Bytes granule);

  /// Zero bytes take one granule. nullopt: no free run is long enough.
  [[nodiscard]] std::optional<Extent> try_allocate(Bytes size);
  /// `extent` must be one that try_allocate returned and that is still allocated.
  void free(const Extent& extent);

  [[nodiscard]] Bytes size() const { return size_; }
  [[nodiscard]] Bytes used() const { return used_; }
  [[nodiscard]] Bytes largest_free() const;

 private:
  [[nodiscard]] std::uint64_t rounded(Bytes size) const {
    return round_up(size.value == 0 ? 1 : size.value, granule_.value);
  }

  Bytes size_;
  Bytes granule_;
  Bytes end_;  // size_ in whole granules
  Bytes used_;
  std::map<std::uint64_t, std::uint64_t> free_;       // offset -> size, coalesced
  std::map<std::uint64_t, std::uint64_t> allocated_;  // offset -> size
};

}  // namespace strata::memory
