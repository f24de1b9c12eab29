#include <cstring>

#include "base/check.hpp"
#include "zero/collectives.hpp"

namespace strata::zero {
namespace {

/// The shard is the whole: gathers and reductions are where they should be already. The copies below only run for a
/// caller that keeps two buffers all the same.
class OneRank final : public Collectives {
 public:
  [[nodiscard]] std::uint32_t rank() const override { return 0; }
  [[nodiscard]] std::uint32_t world_size() const override { return 1; }

  Status all_gather(std::span<const std::byte> shard, std::span<std::byte> full, DType, const CollectiveTag&) override {
    return copy_unless_same(shard, full);
  }
  Status reduce_scatter_mean(std::span<const std::byte> full, std::span<std::byte> shard, DType,
                             const CollectiveTag&) override {
    return copy_unless_same(full, shard);
  }
  Status all_reduce_sum(std::span<double>) override { return {}; }

 private:
  static Status copy_unless_same(std::span<const std::byte> from, std::span<std::byte> to) {
    STRATA_CHECK(from.size() == to.size(), "one rank's shard is its whole buffer");
    if (from.data() != to.data()) std::memcpy(to.data(), from.data(), from.size());
    return {};
  }
};

}  // namespace

std::unique_ptr<Collectives> one_rank() { return std::make_unique<OneRank>(); }

}  // namespace strata::zero
