#include "zero/unit_runtime.hpp"

#include <algorithm>
#include <optional>

#include <ATen/Functions.h>
#include <ATen/record_function.h>
#include <c10/core/StorageImpl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/csrc/autograd/variable.h>

#include "base/check.hpp"
#include "zero/operation_error.hpp"
#include "zero/tensor_types.hpp"

namespace strata::zero {
namespace {

using torch::autograd::variable_list;

bool inside_graph() { return torch::autograd::get_current_graph_task_id() != -1; }

struct SectionStorage {
  c10::intrusive_ptr<c10::StorageImpl> storage;
  Bytes bytes;
  tiers::ReadLease shard;         // one rank: the whole section
  tiers::WriteLease gathered;     // several ranks
};

c10::intrusive_ptr<c10::StorageImpl> make_storage(Bytes bytes) {
  return c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), bytes.value,
                                               c10::DataPtr(nullptr, c10::Device(c10::DeviceType::CPU)), nullptr,
                                               /*resizable=*/false);
}

/// Address space that reads as zeros and takes no memory until it is written to; null when there is none.
c10::DataPtr zero_pages(Bytes bytes) {
  const c10::Device cpu(c10::DeviceType::CPU);
  struct Mapping {
    void* data;
    std::size_t size;
  };
  const auto size = static_cast<std::size_t>(bytes.value);
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return {nullptr, cpu};
  const auto unmap = [](void* context) {
    const std::unique_ptr<Mapping> mapping(static_cast<Mapping*>(context));
    ::munmap(mapping->data, mapping->size);
  };
  return {data, new Mapping{data, size}, unmap, cpu};
}

}  // namespace

struct UnitRuntime::Unit {
  UnitId id;
  const UnitLayout* layout = nullptr;
  const UnitObjects* objects = nullptr;
  std::vector<SectionStorage> sections;
  std::vector<std::vector<at::Tensor>> uses;
  std::vector<std::shared_ptr<torch::autograd::Node>> accumulators;  // keeps the hooked nodes alive
  std::vector<std::uint8_t> arrived;  // per parameter, since the last complete
  bool bound = false;
  bool on_demand = false;    ///< bound by the observer, for an op that is over when the next planned bind comes
  bool until_flush = false;  ///< bound by backward or on demand: the flush lets it go, if nothing did before
};

/// Runs after AccumulateGrad: takes the gradient that it left in the leaf.
class UnitRuntime::ArrivalHook final : public torch::autograd::FunctionPostHook {
 public:
  ArrivalHook(std::weak_ptr<UnitRuntime*> runtime, UnitUse use, std::uint32_t parameter, const at::Tensor& leaf)
      : runtime_(std::move(runtime)), use_(use), parameter_(parameter), leaf_(leaf.getIntrusivePtr()) {}

  variable_list operator()(const variable_list& outputs, const variable_list&) override {
    const auto runtime = runtime_.lock();
    const auto leaf = leaf_.lock();
    if (runtime && leaf) {
      const at::Tensor tensor(leaf);
      at::Tensor gradient = std::move(tensor.mutable_grad());
      tensor.mutable_grad() = at::Tensor();
      if (gradient.defined()) (*runtime)->arrived(use_.unit, parameter_, use_.use, std::move(gradient));
    }
    return outputs;
  }

 private:
  std::weak_ptr<UnitRuntime*> runtime_;
  UnitUse use_;
  std::uint32_t parameter_;
  c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl> leaf_;
};

/// What the identity node needs when its turn comes; travels through autograd as one opaque argument.
struct UnitRuntime::InputEvent final : torch::CustomClassHolder {
  InputEvent(std::weak_ptr<UnitRuntime*> r, std::span<const UnitId> ids)
      : runtime(std::move(r)), units(ids.begin(), ids.end()) {}
  std::weak_ptr<UnitRuntime*> runtime;
  std::vector<UnitId> units;
};

/// The identity node on a unit's inputs. Its backward is the event "release of weights".
class UnitRuntime::InputNode final : public torch::autograd::Function<UnitRuntime::InputNode> {
 public:
  // A TensorList, because autograd takes a std::vector of tensors for something opaque and would cut the graph.
  static variable_list forward(torch::autograd::AutogradContext* context, c10::intrusive_ptr<InputEvent> event,
                               at::TensorList inputs) {
    context->saved_data["event"] = c10::IValue::make_capsule(std::move(event));
    variable_list outputs;
    for (const at::Tensor& input : inputs) outputs.push_back(input.view_as(input));
    return outputs;
  }

  static variable_list backward(torch::autograd::AutogradContext* context, variable_list gradients) {
    const auto event = c10::static_intrusive_pointer_cast<InputEvent>(context->saved_data["event"].toCapsule());
    if (const auto runtime = event->runtime.lock()) (*runtime)->after_backward(event->units);
    variable_list result = {at::Tensor()};  // of the event
    result.insert(result.end(), gradients.begin(), gradients.end());
    return result;
  }
};

UnitRuntime::UnitRuntime(std::span<const UnitLayout> layouts, const StateObjects& objects, tiers::TierManager& tiers,
                         Collectives& collectives, GradientSink& sink, const prefetch::LookaheadOptions& lookahead)
    : layouts_(layouts),
      objects_(objects),
      tiers_(tiers),
      collectives_(collectives),
      sink_(sink),
      lookahead_(tiers, lookahead),
      self_(std::make_shared<UnitRuntime*>(this)) {
  for (std::uint32_t u = 0; u < layouts_.size(); ++u) {
    auto unit = std::make_unique<Unit>();
    unit->id = UnitId(u);
    unit->layout = &layouts_[u];
    unit->objects = &objects_.units[u];
    unit->arrived.assign(layouts_[u].places.size(), 0);
    for (const Section& section : layouts_[u].sections) {
      unit->sections.push_back({make_storage(section.bytes()), section.bytes(), {}, {}});
      owners_[unit->sections.back().storage.get()] = u;
    }
    units_.push_back(std::move(unit));
  }
}

UnitRuntime::~UnitRuntime() {
  self_.reset();
  const std::lock_guard lock(mutex_);
  for (auto& unit : units_) unbind(*unit);
}

std::span<const at::Tensor> UnitRuntime::parameters(UnitUse use) {
  const std::lock_guard lock(mutex_);
  Unit& unit = *units_[use.unit.value];
  while (unit.uses.size() <= use.use) make_use(unit, static_cast<std::uint32_t>(unit.uses.size()));
  return unit.uses[use.use];
}

void UnitRuntime::make_use(Unit& unit, std::uint32_t use) {
  const at::DisableRecordFunctionGuard unobserved;  // only metadata is touched here
  std::vector<at::Tensor> leaves;
  for (std::uint32_t p = 0; p < unit.layout->places.size(); ++p) {
    const UnitLayout::Place place = unit.layout->places[p];
    const Section& section = unit.layout->sections[place.section];
    const Segment& segment = section.segments[place.segment];
    SectionStorage& storage = unit.sections[place.section];
    // set_ checks the bounds, so the storage must have its size while the view is made.
    storage.storage->set_nbytes(static_cast<std::size_t>(storage.bytes.value));
    at::Tensor leaf = at::empty({0}, at::TensorOptions().dtype(scalar_type_of(section.dtype)));
    std::vector<std::int64_t> strides(segment.shape.size());
    std::int64_t stride = 1;
    for (std::size_t d = segment.shape.size(); d-- > 0;) {
      strides[d] = stride;
      stride *= std::max<std::int64_t>(segment.shape[d], 1);
    }
    leaf.set_(c10::Storage(storage.storage), static_cast<std::int64_t>(segment.offset), segment.shape, strides);
    leaf.set_requires_grad(section.trainable == Trainable::kYes);
    if (!unit.bound) storage.storage->set_nbytes(static_cast<std::size_t>(0));
    if (section.trainable == Trainable::kYes) hook_leaf(unit, p, use, leaf);
    leaves.push_back(std::move(leaf));
  }
  unit.uses.push_back(std::move(leaves));
}

void UnitRuntime::hook_leaf(Unit& unit, std::uint32_t parameter, std::uint32_t use, const at::Tensor& leaf) {
  auto accumulator = torch::autograd::impl::grad_accumulator(leaf);
  accumulator->add_post_hook(std::make_unique<ArrivalHook>(self_, UnitUse{unit.id, use}, parameter, leaf));
  unit.accumulators.push_back(std::move(accumulator));
}

void UnitRuntime::adopt(UnitId id, std::span<const at::Tensor> own) {
  const std::lock_guard lock(mutex_);
  const at::DisableRecordFunctionGuard unobserved;  // only metadata is touched here
  Unit& unit = *units_[id.value];
  STRATA_CHECK(unit.uses.empty(), "a unit is adopted before its first use");
  STRATA_CHECK(own.size() == unit.layout->places.size(), "one tensor per parameter");
  make_use(unit, 0);
  std::vector<at::Tensor> leaves;
  unit.accumulators.clear();
  for (std::uint32_t p = 0; p < own.size(); ++p) {
    const at::Tensor& mine = unit.uses[0][p];
    own[p].set_data(mine.detach());
    if (mine.requires_grad()) hook_leaf(unit, p, 0, own[p]);
    leaves.push_back(own[p]);
  }
  unit.uses[0] = std::move(leaves);
}

void UnitRuntime::check_unchanged(const Unit& unit) const {
  for (const auto& leaves : unit.uses) {
    for (std::size_t p = 0; p < leaves.size(); ++p) {
      const UnitLayout::Place place = unit.layout->places[p];
      if (leaves[p].storage().unsafeGetStorageImpl() == unit.sections[place.section].storage.get()) continue;
      const Segment& segment = unit.layout->sections[place.section].segments[place.segment];
      throw OperationError(
          {ErrorCode::kInternal, 0,
           fmt::format("model changed: parameter '{}' of unit '{}' has another storage than the engine gave it",
                       segment.name, unit.layout->name),
           "change values in place, or open a new engine for the changed model"});
    }
  }
}

Result<tiers::ReadLease> UnitRuntime::read_shard(ObjectId shard, Cause cause) {
  auto lease = tiers_.read(shard, Tier::kDevice);
  if (lease || lease.error().code != ErrorCode::kDoesNotFit || cause == Cause::kDemand) return lease;
  // What ops outside their units have bound may go now: no op is running. The rest of the room may be scattered.
  for (auto& unit : units_) {
    if (unit->on_demand) unbind(*unit);
  }
  sink_.make_room();
  tiers_.drop_unleased(Tier::kDevice);
  return tiers_.read(shard, Tier::kDevice);
}

void UnitRuntime::bind_together(std::span<const UnitId> units) {
  try {
    for (const UnitId id : units) bind(*units_[id.value], Cause::kPlanned);
    return;
  } catch (const OperationError& error) {
    // With several ranks nothing is gathered twice: the others would not take part.
    if (error.error().code != ErrorCode::kDoesNotFit || collectives_.world_size() > 1) throw;
  }
  // The plan has room for them all, but the first ones lie where the last one then finds no run that is long enough.
  for (const UnitId id : units) unbind(*units_[id.value]);
  tiers_.drop_unleased(Tier::kDevice);
  for (const UnitId id : units) bind(*units_[id.value], Cause::kPlannedAgain);
}

void UnitRuntime::bind(Unit& unit, Cause cause) {
  if (unit.bound) {
    if (cause != Cause::kDemand) unit.on_demand = false;
    return;
  }
  try {
    for (std::uint32_t s = 0; s < unit.sections.size(); ++s) bind_section(unit, s, cause);
  } catch (...) {
    unbind(unit);  // no lease of half a unit stays behind
    throw;
  }
  unit.bound = true;
}

void UnitRuntime::bind_section(Unit& unit, std::uint32_t s, Cause cause) {
  const SectionObjects& ids = (*unit.objects)[s];
  SectionStorage& section = unit.sections[s];
  if (cause != Cause::kPlannedAgain) lookahead_.use(ids.parameter);
  section.shard = value_or_throw(read_shard(ids.parameter, cause));
  const std::byte* data = section.shard.bytes().data();
  if (collectives_.world_size() > 1) {
    section.gathered = value_or_throw(tiers_.write(*ids.gathered, Tier::kDevice, tiers::Content::kOverwrite));
    const CollectiveTag tag{unit.id, s, visit_++};
    value_or_throw(collectives_.all_gather(section.shard.bytes(), section.gathered.bytes(),
                                           unit.layout->sections[s].dtype, tag));
    section.shard.release();
    data = section.gathered.bytes().data();
  }
  section.storage->set_data_ptr_noswap(c10::DataPtr(const_cast<std::byte*>(data), c10::Device(c10::DeviceType::CPU)));
  section.storage->set_nbytes(static_cast<std::size_t>(section.bytes.value));
}

/// After a failed demand fetch the op runs all the same, and many kernels crash on a null storage: it gets zeros, and
/// its result is thrown away with the step, whose next engine call returns the error.
void UnitRuntime::bind_zeros(Unit& unit) {
  for (SectionStorage& section : unit.sections) {
    section.storage->set_data_ptr_noswap(zero_pages(section.bytes));
    section.storage->set_nbytes(static_cast<std::size_t>(section.bytes.value));
  }
  unit.until_flush = true;
}

void UnitRuntime::unbind(Unit& unit) {
  for (SectionStorage& section : unit.sections) {
    section.storage->set_data_ptr_noswap(c10::DataPtr(nullptr, c10::Device(c10::DeviceType::CPU)));
    section.storage->set_nbytes(static_cast<std::size_t>(0));
    section.shard.release();
    section.gathered.release();
  }
  unit.bound = false;
  unit.until_flush = false;
  unit.on_demand = false;
}

std::vector<at::Tensor> UnitRuntime::before_forward(std::span<const UnitId> units, std::vector<at::Tensor> inputs) {
  const std::lock_guard lock(mutex_);
  if (auto entered = enter(); !entered) throw OperationError(entered.error());
  for (const UnitId id : units) check_unchanged(*units_[id.value]);
  bind_together(units);
  for (const UnitId id : units) {
    if (inside_graph()) units_[id.value]->until_flush = true;
  }
  variable_list differentiable;
  for (const at::Tensor& input : inputs) {
    if (input.defined() && input.requires_grad()) differentiable.push_back(input);
  }
  if (differentiable.empty() || !c10::GradMode::is_enabled()) return inputs;
  const variable_list wrapped =
      InputNode::apply(c10::make_intrusive<InputEvent>(std::weak_ptr<UnitRuntime*>(self_), units),
                       at::TensorList(differentiable));
  std::size_t next = 0;
  for (at::Tensor& input : inputs) {
    if (input.defined() && input.requires_grad()) input = wrapped[next++];
  }
  return inputs;
}

void UnitRuntime::after_forward(std::span<const UnitId> units, std::span<const at::Tensor> outputs) {
  const std::lock_guard lock(mutex_);
  for (const at::Tensor& output : outputs) {
    if (!output.defined() || !output.requires_grad() || output.is_leaf()) continue;
    std::vector<UnitId> ids(units.begin(), units.end());
    output.register_hook([self = std::weak_ptr<UnitRuntime*>(self_), ids](const at::Tensor&) {
      if (const auto runtime = self.lock()) (*runtime)->before_backward(ids);
    });
  }
  if (inside_graph()) return;
  for (const UnitId id : units) unbind(*units_[id.value]);
}

void UnitRuntime::before_backward(std::span<const UnitId> units) {
  const std::lock_guard lock(mutex_);
  bind_together(units);
  for (const UnitId id : units) units_[id.value]->until_flush = true;
}

void UnitRuntime::after_backward(std::span<const UnitId> units) {
  const std::lock_guard lock(mutex_);
  for (const UnitId id : units) release(*units_[id.value]);
}

void UnitRuntime::release(Unit& unit) {
  unbind(unit);
  // With one rank an early complete costs nothing but the accumulator's way home, and frees its place sooner.
  bool all = true;
  for (std::uint32_t p = 0; p < unit.arrived.size(); ++p) {
    const bool trainable = unit.layout->sections[unit.layout->places[p].section].trainable == Trainable::kYes;
    all = all && (!trainable || unit.arrived[p] != 0);
  }
  if (!all && collectives_.world_size() > 1) return;
  std::fill(unit.arrived.begin(), unit.arrived.end(), std::uint8_t{0});
  value_or_throw(sink_.complete(unit.id));
}

void UnitRuntime::arrived(UnitId unit, std::uint32_t parameter, std::uint32_t use, at::Tensor gradient) {
  const std::lock_guard lock(mutex_);
  units_[unit.value]->arrived[parameter] = 1;
  value_or_throw(sink_.add(unit, parameter, gradient, use));
}

Status UnitRuntime::enter() {
  const std::lock_guard lock(mutex_);
  if (observer_error_) {
    Error error = std::move(*observer_error_);
    observer_error_.reset();
    return tl::unexpected(std::move(error));
  }
  if (inside_graph()) return {};
  for (auto& unit : units_) {
    if (unit->until_flush) unbind(*unit);
    std::fill(unit->arrived.begin(), unit->arrived.end(), std::uint8_t{0});
  }
  return sink_.flush();
}

void UnitRuntime::abort() {
  const std::lock_guard lock(mutex_);
  for (auto& unit : units_) {
    unbind(*unit);
    std::fill(unit->arrived.begin(), unit->arrived.end(), std::uint8_t{0});
    for (auto& leaves : unit->uses) {
      for (at::Tensor& leaf : leaves) leaf.mutable_grad() = at::Tensor();
    }
  }
  observer_error_.reset();
  sink_.abort();
  lookahead_.abort();
}

void UnitRuntime::make_host_room() {
  const std::lock_guard lock(mutex_);
  sink_.make_room();
}

void UnitRuntime::end_step() {
  const std::lock_guard lock(mutex_);
  lookahead_.end_step(prefetch::Lookahead::Continue::kNo);
  lookahead_.clear();
}

UnitRuntimeStats UnitRuntime::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void UnitRuntime::bind_owner_of(const c10::StorageImpl* storage) noexcept {
  const std::lock_guard lock(mutex_);
  const auto owner = owners_.find(storage);
  if (owner == owners_.end() || units_[owner->second]->bound) return;
  Unit& unit = *units_[owner->second];
  try {
    bind(unit, Cause::kDemand);
    unit.until_flush = true;
    unit.on_demand = true;
    ++stats_.demand_fetches;
    return;
  } catch (const OperationError& error) {
    if (!observer_error_) observer_error_ = error.error();
  } catch (const std::exception& error) {
    if (!observer_error_) observer_error_ = Error{ErrorCode::kInternal, 0, error.what(), {}};
  }
  bind_zeros(unit);
}

}  // namespace strata::zero
