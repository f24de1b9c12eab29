// The optimizer over sub-groups: state read ahead, one pass over memory, written behind. No torch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "optim/cpu_optimizer.hpp"
#include "tiers/tier_manager.hpp"
#include "zero/segment_table.hpp"
#include "zero/state_objects.hpp"

namespace strata::zero {

struct OptimizerStepOptions {
  /// Bytes of sub-groups to read ahead of the one that is computed; the tier's pool bounds it too.
  Bytes lookahead{256u << 20};
};

/// Not thread-safe; everything it is given outlives it.
class OptimizerStep {
 public:
  OptimizerStep(std::span<const UnitLayout> layouts, const StateObjects& objects, tiers::TierManager& tiers,
                optim::CpuOptimizer& optimizer, std::uint32_t rank, const OptimizerStepOptions& options);

  /// One applied step over every trainable element: `groups[g]` are the constants of parameter group g. On an error
  /// some elements have stepped and others have not, and a parameter at home in memory may be undefined: the store is
  /// rolled back and what lives in memory restored, or nothing may be committed any more.
  [[nodiscard]] Status run(std::span<const kernels::AdamConstants> groups);

  /// Seconds that run() computed (rather than waited) since the last call.
  [[nodiscard]] double take_compute_s();

 private:
  struct Piece {
    std::uint32_t unit = 0;
    std::uint32_t section = 0;
    std::uint32_t sub_group = 0;
    std::vector<ObjectId> needs;  ///< in the order in which they will be leased
  };

  /// What a section's sub-groups share.
  struct Held {
    tiers::ReadLease gradient;
    tiers::WriteLease parameter;
  };
  [[nodiscard]] Result<Held> hold(const SectionObjects& ids, tiers::Content content);
  [[nodiscard]] Result<tiers::WriteLease> hold_state(ObjectId state, const SectionObjects& ids, Held& held);

  void look_ahead(std::size_t current);
  [[nodiscard]] Status run_sections(std::span<const kernels::AdamConstants> groups);
  [[nodiscard]] Status run_section(std::size_t first, std::size_t count,
                                   std::span<const kernels::AdamConstants> groups);

  std::span<const UnitLayout> layouts_;
  const StateObjects& objects_;
  tiers::TierManager& tiers_;
  optim::CpuOptimizer& optimizer_;
  std::uint32_t rank_;
  OptimizerStepOptions options_;
  std::vector<Piece> pieces_;
  double compute_s_ = 0;
};

}  // namespace strata::zero
