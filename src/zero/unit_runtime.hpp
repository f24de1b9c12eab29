// Units at run time: their parameters are views into storages that point at a device slot while the unit is bound, and
// at nothing while it is not.
//
// [Note: Three events of backward]
// Fetch: the gradient of the unit's output arrives (tensor hook on every output). Release of weights: an identity node
// on the unit's inputs runs. Gradient complete: at that node, if all trainable parameters have arrived; else at the
// flush, which is the first engine entry with no autograd graph task active. Tensors that autograd saved share the
// unit's storage, so they see the bytes return.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/function.h>

#include "prefetch/lookahead.hpp"
#include "tiers/tier_manager.hpp"
#include "zero/collectives.hpp"
#include "zero/gradient_sink.hpp"
#include "zero/segment_table.hpp"
#include "zero/state_objects.hpp"

namespace strata::zero {

/// One of several uses of a unit within a step (tied parameters): each has leaves and gradient accumulators of its own
/// over the same storage.
struct UnitUse {
  UnitId unit;
  std::uint32_t use = 0;
};

struct UnitRuntimeStats {
  std::uint64_t demand_fetches = 0;  ///< a weight was touched outside its unit
};

/// The calls throw OperationError (autograd has no other way out); the engine makes a Status of it. They may come from
/// autograd's threads. Everything given outlives the runtime; tensors handed out may outlive it, but not be computed
/// on.
class UnitRuntime {
 public:
  UnitRuntime(std::span<const UnitLayout> layouts, const StateObjects& objects, tiers::TierManager& tiers,
              Collectives& collectives, GradientSink& sink, const prefetch::LookaheadOptions& lookahead);
  ~UnitRuntime();
  UnitRuntime(const UnitRuntime&) = delete;
  UnitRuntime& operator=(const UnitRuntime&) = delete;

  /// Leaf tensors of the unit's parameters, in the order of UnitInfo; made on first request of a use.
  [[nodiscard]] std::span<const at::Tensor> parameters(UnitUse use);
  /// Makes somebody's own tensors the leaves of use 0: their storage becomes the unit's. Once, before the first
  /// forward.
  void adopt(UnitId unit, std::span<const at::Tensor> own);

  /// Binds the units and gives the inputs back, those that require grad behind the identity node. Idempotent; takes
  /// nothing that after_forward must return.
  [[nodiscard]] std::vector<at::Tensor> before_forward(std::span<const UnitId> units, std::vector<at::Tensor> inputs);
  /// Hooks the outputs and releases the units, unless inside a running graph (recompute).
  void after_forward(std::span<const UnitId> units, std::span<const at::Tensor> outputs);
  void before_backward(std::span<const UnitId> units);
  void after_backward(std::span<const UnitId> units);
  /// A parameter's gradient, from its accumulator's hook or from a recomputed call.
  void arrived(UnitId unit, std::uint32_t parameter, std::uint32_t use, at::Tensor gradient);

  /// Every engine entry calls this: the flush of [Note: Three events of backward]. Returns the error of the observer,
  /// if it had one since the last call.
  [[nodiscard]] Status enter();
  /// Releases everything, drops partial gradients; the next step is exact.
  void abort();

  void end_step();
  [[nodiscard]] GradientSink& sink() { return sink_; }
  [[nodiscard]] UnitRuntimeStats stats() const;

  /// For the observer: binds the unit that owns `storage`, if it is one of ours and unbound. Never throws.
  void bind_owner_of(const c10::StorageImpl* storage) noexcept;

  /// Lets accumulators in hand go home, so that the host tier has room in one run.
  void make_host_room();

 private:
  struct Unit;
  class ArrivalHook;
  class InputNode;
  struct InputEvent;

  enum class Cause : std::uint8_t {
    kPlanned,
    kPlannedAgain,  ///< after scattered room: nothing is fetched ahead into what there is
    kDemand
  };
  [[nodiscard]] Result<tiers::ReadLease> read_shard(ObjectId shard, Cause cause);
  void bind_together(std::span<const UnitId> units);
  void bind(Unit& unit, Cause cause);
  void bind_section(Unit& unit, std::uint32_t section, Cause cause);
  void bind_zeros(Unit& unit);
  void unbind(Unit& unit);
  void release(Unit& unit);
  void make_use(Unit& unit, std::uint32_t use);
  void hook_leaf(Unit& unit, std::uint32_t parameter, std::uint32_t use, const at::Tensor& leaf);

  void check_unchanged(const Unit& unit) const;

  std::span<const UnitLayout> layouts_;
  const StateObjects& objects_;
  tiers::TierManager& tiers_;
  Collectives& collectives_;
  GradientSink& sink_;
  prefetch::Lookahead lookahead_;
  std::vector<std::unique_ptr<Unit>> units_;
  std::unordered_map<const c10::StorageImpl*, std::uint32_t> owners_;
  /// Hooks that outlive the runtime find it gone through this.
  std::shared_ptr<UnitRuntime*> self_;
  mutable std::recursive_mutex mutex_;  ///< hooks run on autograd's threads and call each other's entries
  std::optional<Error> observer_error_;
  UnitRuntimeStats stats_;
  std::uint64_t visit_ = 0;
};

}  // namespace strata::zero
