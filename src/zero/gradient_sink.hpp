// Where gradients go: added into the units' accumulators as they arrive, reduced over ranks, normed once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "base/result.hpp"
#include "optim/cpu_optimizer.hpp"
#include "prefetch/lookahead.hpp"
#include "tiers/tier_manager.hpp"
#include "zero/collectives.hpp"
#include "zero/segment_table.hpp"
#include "zero/state_objects.hpp"

namespace strata::zero {

enum class MicroBatchPosition : std::uint8_t { kNotLast, kLast };

/// Calls come from one thread at a time (the engine's or autograd's); everything given outlives the sink. Between two
/// begin_step() calls any number of arrivals per parameter is legal; the first is stored, later ones are added in the
/// order of arrival.
class GradientSink {
 public:
  GradientSink(std::span<const UnitLayout> layouts, const StateObjects& objects, tiers::TierManager& tiers,
               optim::CpuOptimizer& optimizer, Collectives& collectives);

  void begin_step();
  void begin_micro_batch(MicroBatchPosition position) { position_ = position; }

  /// `gradient` has the parameter's shape. `use` tells tied uses apart; arrivals are added, whichever use they are
  /// from.
  [[nodiscard]] Status add(UnitId unit, std::uint32_t parameter, const at::Tensor& gradient, std::uint32_t use);
  /// No more arrivals for the unit are expected in this backward: reduces over ranks, takes the norm in the last
  /// micro-batch, and lets the accumulator go home. Further arrivals are legal, and cost it again.
  [[nodiscard]] Status complete(UnitId unit);
  /// complete() for every unit that has arrivals in hand.
  [[nodiscard]] Status flush();
  /// After the last micro-batch: parameters without any arrival count as zero gradients (as in DeepSpeed's stage 3),
  /// and the squared global norm is summed over segments in unit order, then over ranks.
  [[nodiscard]] Result<double> finish();
  /// Lets the accumulators in hand go home, and makes the host tier's free room one run. Arrivals take them again.
  void make_room();
  /// Lets everything of the step go.
  void abort();

  [[nodiscard]] bool has_arrivals(UnitId unit) const { return units_[unit.value].dirty; }

 private:
  struct SectionState {
    tiers::WriteLease accumulator;  ///< held between the first arrival and complete()
    tiers::WriteLease full;         ///< with several ranks: what the next reduction starts from
    std::vector<std::uint8_t> arrived;       ///< per segment: has content in this step
    std::vector<std::uint8_t> arrived_full;  ///< per segment: has content in `full`
    bool has_content = false;                ///< the accumulator object has bytes of this step
    bool norm_known = false;
    std::vector<double> squares;  ///< per part of the shard
  };
  struct UnitState {
    std::vector<SectionState> sections;
    bool dirty = false;
  };

  [[nodiscard]] Status hold_accumulator(UnitId unit, std::uint32_t section);
  [[nodiscard]] Status reduce(UnitId unit, std::uint32_t section);
  [[nodiscard]] Status complete_section(UnitId unit, std::uint32_t section);
  void fill_missing(const Section& layout, SectionState& state, std::span<std::byte> bytes, DType type);
  void measure(const Section& layout, SectionState& state, std::span<const std::byte> bytes);

  std::span<const UnitLayout> layouts_;
  const StateObjects& objects_;
  tiers::TierManager& tiers_;
  optim::CpuOptimizer& optimizer_;
  Collectives& collectives_;
  prefetch::Lookahead lookahead_;  ///< spilled accumulators come back ahead of their unit's backward
  std::vector<UnitState> units_;
  MicroBatchPosition position_ = MicroBatchPosition::kLast;
  std::uint64_t visit_ = 0;
};

}  // namespace strata::zero
