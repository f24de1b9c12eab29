// What ZeRO asks of the ranks. One rank is a Collectives object too, which copies nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.hpp"
#include "strata/types.hpp"

namespace c10d {
class Backend;
}

namespace strata::zero {

/// Carried by every gather and reduction, so that ranks that run in different orders are told so instead of swapping
/// data silently.
struct CollectiveTag {
  UnitId unit;
  std::uint32_t section = 0;
  std::uint64_t visit = 0;  ///< counts the collectives of this run
};

/// Layout and order are functions of (model, config, world size) only. All ranks issue the same calls in the same
/// order. Calls block until done. Buffers: `shard` has elements / world_size elements, `full` all of them.
class Collectives {
 public:
  virtual ~Collectives() = default;

  [[nodiscard]] virtual std::uint32_t rank() const = 0;
  [[nodiscard]] virtual std::uint32_t world_size() const = 0;

  /// `full` gets the shards of all ranks in rank order.
  [[nodiscard]] virtual Status all_gather(std::span<const std::byte> shard, std::span<std::byte> full, DType type,
                                          const CollectiveTag& tag) = 0;
  /// `shard` gets this rank's slice of the mean of `full` over ranks.
  [[nodiscard]] virtual Status reduce_scatter_mean(std::span<const std::byte> full, std::span<std::byte> shard,
                                                   DType type, const CollectiveTag& tag) = 0;
  /// In place; used for the squared norm and for small decisions that all ranks must share.
  [[nodiscard]] virtual Status all_reduce_sum(std::span<double> values) = 0;
};

[[nodiscard]] std::unique_ptr<Collectives> one_rank();

}  // namespace strata::zero
