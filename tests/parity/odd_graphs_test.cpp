// Graphs that break naive hooks. Everything is at home on the disk and the device holds two units, so a weight that is
// not fetched, or fetched and not released, shows as a crash or a deadlock; gradients are compared bit for bit with the
// plain model's.
#include <stdexcept>

#include <torch/nn/functional.h>
#include <torch/nn/modules.h>

#include "support/module_engine.hpp"
#include "support/temp_dir.hpp"
#include "zero/operation_error.hpp"

namespace strata {
namespace {

using testing::ModuleEngineOptions;
using torch::nn::Linear;

struct Net {
  explicit Net(std::size_t layers) {
    torch::manual_seed(7);
    for (std::size_t i = 0; i < layers; ++i) linears.push_back(Linear(16, 16));
  }
  std::vector<Linear> linears;

  [[nodiscard]] std::vector<std::pair<std::string, const torch::nn::Module*>> modules() const {
    std::vector<std::pair<std::string, const torch::nn::Module*>> list;
    for (std::size_t i = 0; i < linears.size(); ++i) list.emplace_back("u" + std::to_string(i), linears[i].get());
    return list;
  }
};

at::Tensor input() {
  torch::manual_seed(11);
  return torch::randn({4, 16});
}

/// Calls a unit under the engine, or plainly when there is none.
struct Caller {
  engine::Engine* engine = nullptr;
  bool recompute = false;

  at::Tensor operator()(std::uint32_t unit, const std::function<at::Tensor(const at::Tensor&)>& f,
                        const at::Tensor& x) const {
    if (engine == nullptr) return f(x);
    const zero::UnitCall call{{{UnitId(unit), 0}},
                              [f](std::span<const at::Tensor>, const at::Tensor& in) { return f(in); }};
    if (recompute) return zero::run_unit_recomputed(engine->runtime(), engine->tiers(), call, x, std::nullopt);
    return zero::run_unit(engine->runtime(), call, x);
  }
};

using Program = std::function<at::Tensor(Net&, const Caller&)>;

class OddGraphsTest : public ::testing::Test {
 protected:
  std::unique_ptr<engine::Engine> open(Net& net, const ModuleEngineOptions& options = {}) {
    auto opened = testing::open_module_engine(net.modules(), dir_.path() / ("run" + std::to_string(runs_++)), options);
    EXPECT_TRUE(opened) << to_string(opened.error());
    return opened ? *std::move(opened) : nullptr;
  }

  /// Runs the program with and without an engine and compares the gradients of every trainable parameter.
  void expect_same_gradients(std::size_t layers, const Program& program, bool recompute = false,
                             const std::function<void(Net&)>& prepare = {}, const ModuleEngineOptions& options = {}) {
    Net plain(layers);
    Net own(layers);
    if (prepare) prepare(plain);
    if (prepare) prepare(own);
    const at::Tensor plain_loss = program(plain, {});
    plain_loss.backward();
    auto engine = open(own, options);
    ASSERT_NE(engine, nullptr);
    for (int repeat = 0; repeat < 2; ++repeat) {  // the second time with a recorded order
      engine->begin_step();
      at::Tensor loss;
      const auto status = engine->compute([&] {
        loss = program(own, {engine.get(), recompute});
        loss.backward();
      });
      ASSERT_TRUE(status) << to_string(status.error());
      EXPECT_TRUE(at::equal(loss, plain_loss));
      compare(*engine, plain, own);
      engine->runtime().end_step();
    }
  }

  static void compare(engine::Engine& engine, const Net& plain, const Net& own) {
    for (std::uint32_t u = 0; u < own.linears.size(); ++u) {
      for (const auto& item : plain.linears[u]->named_parameters()) {
        if (!item.value().requires_grad()) continue;
        const std::string name = "u" + std::to_string(u) + "." + item.key();
        if (!has_parameter(engine, u, name)) continue;
        const at::Tensor mine = testing::gradient_of(engine, u, name);
        const at::Tensor theirs = item.value().grad().defined() ? item.value().grad() : at::zeros_like(item.value());
        EXPECT_TRUE(at::equal(mine, theirs))
            << name << " differs by " << (mine - theirs).abs().max().item<float>() << "\n"
            << mine.flatten().slice(0, 0, 6) << theirs.flatten().slice(0, 0, 6);
      }
    }
  }

  static bool has_parameter(engine::Engine& engine, std::uint32_t unit, const std::string& name) {
    for (const auto& section : engine.layouts()[unit].sections) {
      for (const auto& segment : section.segments) {
        if (segment.name == name) return true;
      }
    }
    return false;
  }

  testing::TempDir dir_;
  int runs_ = 0;
};

at::Tensor chain(Net& net, const Caller& call) {
  at::Tensor x = input();
  for (std::uint32_t u = 0; u < net.linears.size(); ++u) {
    x = call(u, [&net, u](const at::Tensor& in) { return at::tanh(net.linears[u]->forward(in)); }, x);
  }
  return x.pow(2).sum();
}

TEST_F(OddGraphsTest, ChainWithTwoSlots) { expect_same_gradients(5, chain); }

TEST_F(OddGraphsTest, ChainWithRecompute) { expect_same_gradients(5, chain, true); }

TEST_F(OddGraphsTest, ChainOnHostAndInMemory) {
  ModuleEngineOptions options;
  options.device = OffloadDevice::kCpu;
  expect_same_gradients(4, chain, false, {}, options);
  options.device = OffloadDevice::kNone;
  expect_same_gradients(4, chain, true, {}, options);
}

TEST_F(OddGraphsTest, FrozenUnit) {
  for (const bool recompute : {false, true}) {
    expect_same_gradients(4, chain, recompute, [](Net& net) {
      for (auto& p : net.linears[2]->parameters()) p.set_requires_grad(false);
    });
    expect_same_gradients(4, chain, recompute, [](Net& net) {
      for (auto& p : net.linears[0]->parameters()) p.set_requires_grad(false);
      net.linears[1]->bias.set_requires_grad(false);
    });
  }
}

TEST_F(OddGraphsTest, UnusedParameterAndUnusedUnit) {
  const Program program = [](Net& net, const Caller& call) {
    at::Tensor x = input();
    x = call(0, [&](const at::Tensor& in) { return at::matmul(in, net.linears[0]->weight); }, x);  // no bias
    x = call(2, [&](const at::Tensor& in) { return at::tanh(net.linears[2]->forward(in)); }, x);   // unit 1 never
    return x.sum();
  };
  expect_same_gradients(3, program);
  expect_same_gradients(3, program, true);
}

TEST_F(OddGraphsTest, TiedAcrossTwoCallsOfOneUnit) {
  const Program program = [](Net& net, const Caller& call) {
    at::Tensor x = call(0, [&](const at::Tensor& in) { return at::tanh(net.linears[0]->forward(in)); }, input());
    x = call(1, [&](const at::Tensor& in) { return at::tanh(net.linears[1]->forward(in)); }, x);
    x = call(0, [&](const at::Tensor& in) { return at::matmul(in, net.linears[0]->weight.t()); }, x);
    return x.pow(2).sum();
  };
  expect_same_gradients(2, program);
}

TEST_F(OddGraphsTest, WeightUsedOutsideItsUnit) {
  const Program program = [](Net& net, const Caller& call) {
    at::Tensor x = call(0, [&](const at::Tensor& in) { return at::tanh(net.linears[0]->forward(in)); }, input());
    x = call(1, [&](const at::Tensor& in) { return at::tanh(net.linears[1]->forward(in)); }, x);
    return x.sum() + net.linears[0]->weight.mul(net.linears[2]->weight).sum();
  };
  Net own(3);
  auto engine = open(own);
  ASSERT_NE(engine, nullptr);
  engine->begin_step();
  ASSERT_TRUE(engine->compute([&] { program(own, {engine.get()}).backward(); }));
  EXPECT_GT(engine->runtime().stats().demand_fetches, 0u);
  expect_same_gradients(3, program);
}

TEST_F(OddGraphsTest, TwoForwardsOneBackward) {
  const Program program = [](Net& net, const Caller& call) {
    auto branch = [&](const at::Tensor& start) {
      at::Tensor x = start;
      for (std::uint32_t u = 0; u < 3; ++u) {
        x = call(u, [&net, u](const at::Tensor& in) { return at::tanh(net.linears[u]->forward(in)); }, x);
      }
      return x;
    };
    const at::Tensor start = input();
    return (branch(start) * branch(start + 1)).sum();
  };
  expect_same_gradients(3, program);
  Net plain(3);  // with recompute the sum over uses is associated otherwise: close, and the same every time
  program(plain, {}).backward();
  Net own(3);
  auto engine = open(own);
  ASSERT_NE(engine, nullptr);
  engine->begin_step();
  ASSERT_TRUE(engine->compute([&] { program(own, {engine.get(), true}).backward(); }));
  const at::Tensor mine = testing::gradient_of(*engine, 1, "u1.weight");
  EXPECT_TRUE(at::allclose(mine, plain.linears[1]->weight.grad(), 1e-5, 1e-6));
}

TEST_F(OddGraphsTest, EvaluationBetweenStepsChangesNothing) {
  auto train = [&](bool evaluate) {
    Net net(4);
    auto engine = open(net);
    EXPECT_NE(engine, nullptr);
    for (int step = 0; step < 3; ++step) {
      engine->begin_step();
      EXPECT_TRUE(engine->compute([&] { chain(net, {engine.get()}).backward(); }));
      EXPECT_TRUE(engine->step(1));
      if (evaluate) {
        EXPECT_TRUE(engine->compute([&] {
          const at::NoGradGuard guard;
          chain(net, {engine.get()});
        }));
      }
    }
    return engine->state_digest().value();
  };
  EXPECT_EQ(train(false), train(true));
}

/// Throws at the place and in the pass that the test names.
struct Bomb : torch::autograd::Function<Bomb> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, bool in_backward) {
    context->saved_data["armed"] = in_backward;
    return x.clone();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (context->saved_data["armed"].toBool()) throw std::runtime_error("bomb in backward");
    return {gradients[0], at::Tensor()};
  }
};

TEST_F(OddGraphsTest, AStepThatThrowsAnywhereLeavesTheNextOneExact) {
  constexpr std::uint32_t kUnits = 4;
  auto run = [&](Net& net, engine::Engine& engine, bool recompute, int forward_bomb, int backward_bomb) {
    const Caller call{&engine, recompute};
    at::Tensor x = input();
    for (std::uint32_t u = 0; u < kUnits; ++u) {
      x = call(u,
               [&, u](const at::Tensor& in) {
                 if (forward_bomb == static_cast<int>(u)) throw std::runtime_error("bomb in forward");
                 const at::Tensor mid = Bomb::apply(net.linears[u]->forward(in), backward_bomb == static_cast<int>(u));
                 return at::tanh(mid);
               },
               x);
    }
    x.pow(2).sum().backward();
  };
  for (const bool recompute : {false, true}) {
    auto train = [&](bool with_bombs) {
      Net net(kUnits);
      auto engine = open(net);
      EXPECT_NE(engine, nullptr);
      for (int step = 0; step < 4; ++step) {
        if (with_bombs) {
          for (int where = 0; where < static_cast<int>(2 * kUnits); ++where) {
            const int unit = where % static_cast<int>(kUnits);
            const bool forward = where < static_cast<int>(kUnits);
            engine->begin_step();
            const auto failed = engine->compute(
                [&] { run(net, *engine, recompute, forward ? unit : -1, forward ? -1 : unit); });
            EXPECT_FALSE(failed);
            EXPECT_NE(failed.error().message.find("bomb"), std::string::npos) << failed.error().message;
            engine->abort_step();
          }
        }
        engine->begin_step();
        EXPECT_TRUE(engine->compute([&] { run(net, *engine, recompute, -1, -1); }));
        EXPECT_TRUE(engine->step(1));
      }
      return engine->state_digest().value();
    };
    EXPECT_EQ(train(false), train(true)) << (recompute ? "recompute" : "plain");
  }
}

TEST_F(OddGraphsTest, AChangedModelIsAnErrorThatNamesTheParameter) {
  Net net(3);
  auto engine = open(net);
  ASSERT_NE(engine, nullptr);
  net.linears[1]->weight.set_data(torch::zeros({16, 16}));
  engine->begin_step();
  const auto status = engine->compute([&] { chain(net, {engine.get()}).backward(); });
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("u1.weight"), std::string::npos) << status.error().message;
  engine->abort_step();
}

}  // namespace
}  // namespace strata
