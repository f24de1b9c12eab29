#include "zero/unit_call.hpp"

#include <cstring>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "zero/operation_error.hpp"

namespace strata::zero {
namespace {

using torch::autograd::variable_list;

std::vector<UnitId> units_of(const UnitCall& call) {
  std::vector<UnitId> units;
  for (const UnitUse& use : call.uses) units.push_back(use.unit);
  return units;
}

variable_list parameters_of(UnitRuntime& runtime, const UnitCall& call) {
  variable_list parameters;
  for (const UnitUse& use : call.uses) {
    const auto leaves = runtime.parameters(use);
    parameters.insert(parameters.end(), leaves.begin(), leaves.end());
  }
  return parameters;
}

/// The default generator as it was at the first run, put back when the second one is over.
class GeneratorState {
 public:
  GeneratorState() : state_(at::detail::getDefaultCPUGenerator().get_state()) {}
  [[nodiscard]] const at::Tensor& state() const { return state_; }
  static void set(const at::Tensor& state) {
    at::Generator generator = at::detail::getDefaultCPUGenerator();
    generator.set_state(state);
  }

 private:
  at::Tensor state_;
};

class GeneratorGuard {
 public:
  explicit GeneratorGuard(const at::Tensor& state) { GeneratorState::set(state); }
  ~GeneratorGuard() { GeneratorState::set(now_.state()); }
  GeneratorGuard(const GeneratorGuard&) = delete;
  GeneratorGuard& operator=(const GeneratorGuard&) = delete;

 private:
  GeneratorState now_;
};

/// Everything a recomputed call needs in backward; one opaque argument to autograd.
struct Recompute final : torch::CustomClassHolder {
  UnitRuntime* runtime = nullptr;
  tiers::TierManager* tiers = nullptr;
  UnitCall call;
  std::optional<ObjectId> spill;
  at::Tensor generator;
  std::vector<std::int64_t> shape;
  at::TensorOptions options;

  /// A lease of the spilled input; accumulators in hand make room for it if they must.
  template <class Take>
  auto lease_of(Take take) const {
    auto lease = take();
    if (!lease && lease.error().code == ErrorCode::kDoesNotFit) {
      runtime->make_host_room();
      lease = take();
    }
    return value_or_throw(std::move(lease));
  }

  void put_away(const at::Tensor& input) const {
    const at::Tensor bytes = input.contiguous();
    const tiers::ObjectSpec& place = tiers->objects()[spill->value];
    if (bytes.nbytes() > place.bytes.value) {
      throw OperationError({ErrorCode::kInternal, 0,
                            fmt::format("a stage's input of {} bytes does not fit '{}' of {} bytes", bytes.nbytes(),
                                        place.name, place.bytes.value),
                            "the model's activation estimate is too low"});
    }
    tiers::WriteLease lease =
        lease_of([&] { return tiers->write(*spill, Tier::kHost, tiers::Content::kOverwrite); });
    std::memcpy(lease.bytes().data(), bytes.const_data_ptr(), bytes.nbytes());
  }
  [[nodiscard]] at::Tensor bring_back() const {
    at::Tensor input = at::empty(shape, options);
    {
      const tiers::ReadLease lease = lease_of([&] { return tiers->read(*spill, Tier::kHost); });
      std::memcpy(input.mutable_data_ptr(), lease.bytes().data(), input.nbytes());
    }
    tiers->discard(*spill);
    return input;
  }
};

class RecomputeFunction final : public torch::autograd::Function<RecomputeFunction> {
 public:
  // `anchor` requires grad, so that the node exists even when the input does not.
  static at::Tensor forward(torch::autograd::AutogradContext* context, c10::intrusive_ptr<Recompute> recompute,
                            at::Tensor input, at::Tensor /*anchor*/) {
    recompute->generator = GeneratorState().state();
    const at::Tensor output = run_unit(*recompute->runtime, recompute->call, input);
    if (recompute->spill) {
      recompute->shape = input.sizes().vec();
      recompute->options = input.options();
      recompute->put_away(input);
    } else {
      context->save_for_backward({input});
    }
    context->saved_data["recompute"] = c10::IValue::make_capsule(std::move(recompute));
    context->saved_data["input_grad"] = input.requires_grad();
    return output;
  }

  static variable_list backward(torch::autograd::AutogradContext* context, variable_list gradients) {
    const auto recompute =
        c10::static_intrusive_pointer_cast<Recompute>(context->saved_data["recompute"].toCapsule());
    const bool input_grad = context->saved_data["input_grad"].toBool();
    at::Tensor input = recompute->spill ? recompute->bring_back() : context->get_saved_variables()[0].detach();
    input.set_requires_grad(input_grad);

    UnitRuntime& runtime = *recompute->runtime;
    const std::vector<UnitId> units = units_of(recompute->call);
    const variable_list parameters = parameters_of(runtime, recompute->call);
    variable_list wanted;
    if (input_grad) wanted.push_back(input);
    for (const at::Tensor& parameter : parameters) {
      if (parameter.requires_grad()) wanted.push_back(parameter);
    }
    variable_list found;
    {
      const at::AutoGradMode grad(true);
      at::Tensor output;
      {
        const GeneratorGuard guard(recompute->generator);
        output = run_unit(runtime, recompute->call, input);
      }
      if (!wanted.empty()) {
        found = torch::autograd::grad({output}, wanted, {gradients[0]}, /*retain_graph=*/false,
                                      /*create_graph=*/false, /*allow_unused=*/true);
      }
    }
    std::size_t next = input_grad ? 1 : 0;
    for (const UnitUse& use : recompute->call.uses) {
      const auto leaves = runtime.parameters(use);
      for (std::uint32_t p = 0; p < leaves.size(); ++p) {
        if (!leaves[p].requires_grad()) continue;
        at::Tensor gradient = std::move(found[next++]);
        if (gradient.defined()) runtime.arrived(use.unit, p, use.use, std::move(gradient));
      }
    }
    runtime.after_backward(units);
    return {at::Tensor(), input_grad ? found[0] : at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor run_unit(UnitRuntime& runtime, const UnitCall& call, const at::Tensor& input) {
  const std::vector<UnitId> units = units_of(call);
  const variable_list inputs = runtime.before_forward(units, {input});
  const variable_list parameters = parameters_of(runtime, call);
  const at::Tensor output = call.function(parameters, inputs[0]);
  runtime.after_forward(units, {&output, 1});
  return output;
}

at::Tensor run_unit_recomputed(UnitRuntime& runtime, tiers::TierManager& tiers, const UnitCall& call,
                               const at::Tensor& input, std::optional<ObjectId> spill) {
  if (!c10::GradMode::is_enabled()) return run_unit(runtime, call, input);
  auto recompute = c10::make_intrusive<Recompute>();
  recompute->runtime = &runtime;
  recompute->tiers = &tiers;
  recompute->call = call;
  recompute->spill = spill;
  const at::Tensor anchor = at::empty({0}).set_requires_grad(true);
  return RecomputeFunction::apply(std::move(recompute), input, anchor);
}

}  // namespace strata::zero
