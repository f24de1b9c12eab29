// Four ranks in one process, through the seam for many: their shards are the one-rank state, cut.
#include <thread>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "device/device.hpp"
#include "support/fake_backend.hpp"
#include "support/fake_ranks.hpp"
#include "zero/backend_collectives.hpp"
#include "zero/gradient_sink.hpp"
#include "zero/optimizer_step.hpp"
#include "zero/state_access.hpp"
#include "zero/unit_call.hpp"
#include "zero/unit_runtime.hpp"

namespace strata::zero {
namespace {

using State = std::map<std::string, std::vector<float>>;

std::vector<UnitInfo> units(DType type) {
  return {{"first", {{"first.weight", {24, 40}, type}, {"first.bias", {24}, type}}},
          {"second", {{"second.weight", {24, 24}, type}, {"second.frozen", {24}, type, Trainable::kNo}}},
          {"third", {{"third.weight", {50, 24}, type}}}};
}

/// One rank's whole stack, everything at home in host memory.
struct RankWorld {
  RankWorld(DType type, std::unique_ptr<Collectives> own) : collectives(std::move(own)) {
    layouts = lay_out(units(type), {.world_size = collectives->world_size(), .sub_group_elements = 4096}).value();
    std::vector<UnitPlacement> placements;
    for (const auto& layout : layouts) {
      UnitPlacement unit;
      for (const auto& section : layout.sections) {
        unit.push_back({Tier::kHost, Tier::kHost, std::vector<Tier>(section.sub_groups.size(), Tier::kHost)});
      }
      placements.push_back(std::move(unit));
    }
    objects = make_state_objects(layouts, placements,
                                 {.world_size = collectives->world_size(), .gradient_type = DType::kFloat32});
    for (auto& spec : objects.specs) spec.backing = tiers::Backing::kNone;  // nothing is durable here
    device = device::open_host_device({.memory = Bytes(4u << 20)}).value();
    tiers = tiers::TierManager::create({.device_pool = Bytes(4u << 20), .host_budget = Bytes(16u << 20)}, objects.specs,
                                       *device, nullptr, nullptr)
                .value();
    optimizer = std::make_unique<optim::CpuOptimizer>(optim::CpuOptimizerOptions{.threads = 1});
    sink = std::make_unique<GradientSink>(layouts, objects, *tiers, *optimizer, *collectives);
    step = std::make_unique<OptimizerStep>(layouts, objects, *tiers, *optimizer, collectives->rank(),
                                           OptimizerStepOptions{});
    runtime =
        std::make_unique<UnitRuntime>(layouts, objects, *tiers, *collectives, *sink, prefetch::LookaheadOptions{});
    for (std::uint32_t u = 0; u < layouts.size(); ++u) {
      EXPECT_TRUE(initialize_unit(u, layouts, objects, *tiers, *optimizer, collectives->rank(),
                                  [](const Segment& segment, std::uint64_t first, std::span<float> out) -> Status {
                                    for (std::size_t i = 0; i < out.size(); ++i) {
                                      const auto x = static_cast<double>(first + i + segment.name.size() * 131);
                                      out[i] = static_cast<float>(std::sin(x * 0.7) * 0.3);
                                    }
                                    return {};
                                  }));
    }
  }

  void train(DType type, int steps, int accumulation) {
    for (int s = 0; s < steps; ++s) {
      sink->begin_step();
      for (int m = 0; m < accumulation; ++m) {
        sink->begin_micro_batch(m + 1 == accumulation ? MicroBatchPosition::kLast : MicroBatchPosition::kNotLast);
        const at::Tensor input = at::arange(4 * 40).view({4, 40}).to(at::kFloat).mul(0.01 * (s + m + 1)).sin().to(
            type == DType::kBFloat16 ? at::kBFloat16 : at::kFloat);
        at::Tensor x = run_unit(*runtime, {{{UnitId(0)}}, [](auto p, const at::Tensor& in) {
                                             return at::tanh(at::linear(in, p[0], p[1]));
                                           }}, input);
        x = run_unit_recomputed(*runtime, *tiers, {{{UnitId(1)}}, [](auto p, const at::Tensor& in) {
                                                      return at::tanh(at::linear(in, p[0]) + p[1]);
                                                    }}, x, std::nullopt);
        x = run_unit(*runtime, {{{UnitId(2)}}, [](auto p, const at::Tensor& in) { return at::linear(in, p[0]); }}, x);
        x.to(at::kFloat).pow(2).mean().backward();
      }
      EXPECT_TRUE(runtime->enter());
      runtime->end_step();
      const auto squares = sink->finish();
      ASSERT_TRUE(squares) << to_string(squares.error());
      const auto norm = std::sqrt(*squares);
      const auto clip = static_cast<float>(std::min(1.0, 0.01 / (norm + 1e-6)));
      const auto constants =
          optim::adam_constants({.lr = 0.01, .weight_decay = 0.1}, static_cast<std::uint64_t>(s + 1), clip);
      EXPECT_TRUE(step->run({&constants, 1}));
    }
  }

  /// Adds this rank's elements to whole parameters.
  void collect(State& state) const {
    const std::uint32_t rank = collectives->rank();
    for (std::size_t u = 0; u < layouts.size(); ++u) {
      for (std::size_t s = 0; s < layouts[u].sections.size(); ++s) {
        const Section& section = layouts[u].sections[s];
        const std::uint64_t shard = section.shard_elements * rank;
        for (std::size_t k = 0; k < section.sub_groups.size(); ++k) {
          const SubGroup& group = section.sub_groups[k];
          const auto lease = tiers->read(objects.units[u][s].optimizer[k], Tier::kHost);
          ASSERT_TRUE(lease);
          const auto* floats = reinterpret_cast<const float*>(lease->bytes().data());
          const StateArrays arrays = state_arrays(section.dtype, group);
          for (const auto& part : parts_within(section, shard + group.begin, shard + group.end)) {
            for (std::uint32_t a = 0; a < arrays.count; ++a) {
              auto& whole = state[part.segment->name + "." + std::to_string(a)];
              whole.resize(part.segment->numel);
              std::copy_n(floats + a * arrays.stride + part.at, part.count,
                          whole.begin() + static_cast<long>(part.first));
            }
          }
        }
      }
    }
  }

  std::unique_ptr<Collectives> collectives;
  std::vector<UnitLayout> layouts;
  StateObjects objects;
  std::unique_ptr<device::Device> device;
  std::unique_ptr<tiers::TierManager> tiers;
  std::unique_ptr<optim::CpuOptimizer> optimizer;
  std::unique_ptr<GradientSink> sink;
  std::unique_ptr<OptimizerStep> step;
  std::unique_ptr<UnitRuntime> runtime;
};

/// How the fake ranks talk: straight, or through c10d's Backend.
enum class Wire { kDirect, kBackend };

State train_ranks(std::uint32_t size, DType type, int accumulation, Wire wire) {
  testing::FakeGroup group(size);
  const auto fake_wire = std::make_shared<testing::FakeWire>(static_cast<int>(size));
  State state;
  std::mutex mutex;
  std::vector<std::jthread> ranks;
  for (std::uint32_t r = 0; r < size; ++r) {
    ranks.emplace_back([&, r] {
      auto collectives =
          wire == Wire::kDirect
              ? std::unique_ptr<Collectives>(std::make_unique<testing::FakeRank>(group, r, size))
              : collectives_over(c10::make_intrusive<testing::FakeBackend>(fake_wire, static_cast<int>(r)));
      RankWorld world(type, std::move(collectives));
      world.train(type, 3, accumulation);
      const std::lock_guard lock(mutex);
      world.collect(state);
    });
  }
  ranks.clear();
  return state;
}

class FakeRanksTest : public ::testing::TestWithParam<Wire> {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

INSTANTIATE_TEST_SUITE_P(Wires, FakeRanksTest, ::testing::Values(Wire::kDirect, Wire::kBackend),
                         [](const auto& test) { return test.param == Wire::kDirect ? "Direct" : "Backend"; });

TEST_P(FakeRanksTest, FourRanksHoldTheOneRankStateCut) {
  for (const DType type : {DType::kFloat32, DType::kBFloat16}) {
    for (const int accumulation : {1, 2}) {
      SCOPED_TRACE(std::string(name_of(type)) + " accumulation " + std::to_string(accumulation));
      RankWorld one(type, one_rank());
      one.train(type, 3, accumulation);
      State whole;
      one.collect(whole);
      const State four = train_ranks(4, type, accumulation, GetParam());
      ASSERT_EQ(whole.size(), four.size());
      for (const auto& [name, values] : whole) {
        EXPECT_EQ(values, four.at(name)) << name;
        EXPECT_GT(std::count_if(values.begin(), values.end(), [](float v) { return v != 0; }),
                  static_cast<long>(values.size() / 2))
            << name << " had no gradient";
      }
    }
  }
}

TEST(FakeGroupTest, RanksInDifferentOrderAreToldSo) {
  testing::FakeGroup group(2);
  std::vector<Status> status(2);
  std::vector<std::jthread> ranks;
  for (std::uint32_t r = 0; r < 2; ++r) {
    ranks.emplace_back([&, r] {
      testing::FakeRank rank(group, r, 2);
      std::vector<std::byte> shard(8), full(16);
      status[r] = rank.all_gather(shard, full, DType::kFloat32, {UnitId(r), 0, 5});
    });
  }
  ranks.clear();
  for (const auto& one : status) {
    ASSERT_FALSE(one);
    EXPECT_NE(one.error().message.find("unit 0"), std::string::npos);
    EXPECT_NE(one.error().message.find("unit 1"), std::string::npos);
  }
}

}  // namespace
}  // namespace strata::zero
