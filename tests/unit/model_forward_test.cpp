// Losses and gradients of GPT-2 and Llama against plain float64 implementations.
#include <cmath>
#include <string>

#include <gtest/gtest.h>

#include "model/gpt2.hpp"
#include "model/llama.hpp"
#include "model/loss.hpp"
#include "support/model_leaves.hpp"

namespace strata::test {
namespace {

using model::Gpt2Config;
using model::LlamaConfig;
using model::Model;

Gpt2Config tiny_gpt2() {
  Gpt2Config c;
  c.vocabulary = 41;
  c.positions = 16;
  c.hidden = 24;
  c.layers = 2;
  c.heads = 3;
  c.inner = 40;
  c.embedding_dropout = c.residual_dropout = c.attention_dropout = 0.0;
  return c;
}

LlamaConfig tiny_llama() {
  LlamaConfig c;
  c.vocabulary = 41;
  c.positions = 16;
  c.hidden = 24;
  c.layers = 2;
  c.heads = 4;
  c.key_value_heads = 2;
  c.head_size = 6;
  c.inner = 40;
  return c;
}

/// Compares the loss and every gradient. fp32 sums of at most some hundred terms differ by about 1e-6 of their size.
template <class Reference>
void expect_equal_to_reference(const Model& m, Reference reference) {
  const auto ids = make_ids(3, 11, m.vocabulary(), 1), targets = make_ids(3, 11, m.vocabulary(), 2);
  const auto leaves = make_leaves(m, at::kFloat), exact = make_leaves(m, at::kDouble);
  const auto loss = run_model(m, leaves, ids, targets);
  const auto expected = reference(exact.by_name, ids, targets);
  ASSERT_EQ(loss.scalar_type(), at::kFloat);
  ASSERT_EQ(loss.dim(), 0);
  EXPECT_NEAR(loss.template item<double>(), expected.template item<double>(), 2e-6 * expected.template item<double>());
  loss.backward();
  expected.backward();
  for (const auto& [name, leaf] : leaves.by_name) {
    ASSERT_TRUE(leaf.grad().defined()) << name;
    const auto want = exact.by_name.at(name).grad();
    const double error = (leaf.grad().to(at::kDouble) - want).norm().template item<double>();
    EXPECT_LE(error, 2e-5 * want.norm().template item<double>()) << name;
  }
}

void expect_gpt2(const Gpt2Config& c) {
  expect_equal_to_reference(*model::make_gpt2(c), [&](const NamedTensors& p, const at::Tensor& ids,
                                                      const at::Tensor& t) { return reference_gpt2(c, p, ids, t); });
}

void expect_llama(const LlamaConfig& c) {
  expect_equal_to_reference(*model::make_llama(c), [&](const NamedTensors& p, const at::Tensor& ids,
                                                       const at::Tensor& t) { return reference_llama(c, p, ids, t); });
}

TEST(Gpt2Test, TiedEqualsPlainFormulas) {
  expect_gpt2(tiny_gpt2());
}

TEST(Gpt2Test, UntiedEqualsPlainFormulas) {
  auto c = tiny_gpt2();
  c.tied = false;
  expect_gpt2(c);
}

TEST(Gpt2Test, ScalesAndExactGeluEqualPlainFormulas) {
  auto c = tiny_gpt2();
  c.activation = model::Activation::kGelu;
  c.scale_by_inverse_layer = true;
  expect_gpt2(c);
  c.scale_attention = false;
  expect_gpt2(c);
}

TEST(LlamaTest, GroupedHeadsEqualPlainFormulas) {
  expect_llama(tiny_llama());
}

TEST(LlamaTest, TiedWithBiasesEqualsPlainFormulas) {
  auto c = tiny_llama();
  c.tied = c.attention_bias = c.mlp_bias = true;
  expect_llama(c);
}

TEST(LlamaTest, OwnHeadSizeAndThetaEqualPlainFormulas) {
  auto c = tiny_llama();
  c.head_size = 10;
  c.key_value_heads = 4;
  c.rope_theta = 500.0;
  expect_llama(c);
}

/// Parameters from a formula: number k in the order of names, element i, is sin(0.37 i + k) / 4, norms around 1.
ModelLeaves formula_leaves(const Model& m) {
  auto leaves = make_leaves(m, at::kFloat);
  double k = 0;
  for (auto& [name, leaf] : leaves.by_name) {
    auto values = at::arange(leaf.numel(), at::kDouble).mul(0.37).add(k++).sin().mul(0.25).view(leaf.sizes());
    const bool norm = name.find("ln_") != std::string::npos || name.find("norm") != std::string::npos;
    if (norm && name.ends_with("weight")) values.add_(1.0);
    leaf.detach().copy_(values);
  }
  return leaves;
}

/// The loss and the norm of all gradients that transformers 4.57 (eager attention) computes in float64 with the same
/// parameters.
void expect_transformers(const Model& m, double loss, double gradient_norm) {
  const auto leaves = formula_leaves(m);
  const auto ids = make_ids(3, 11, m.vocabulary(), 1), targets = make_ids(3, 11, m.vocabulary(), 2);
  const auto got = run_model(m, leaves, ids, targets);
  EXPECT_NEAR(got.item<double>(), loss, 1e-6 * loss);
  got.backward();
  double squares = 0;
  for (const auto& [name, leaf] : leaves.by_name) squares += leaf.grad().to(at::kDouble).pow(2).sum().item<double>();
  EXPECT_NEAR(std::sqrt(squares), gradient_norm, 5e-6 * gradient_norm);
}

TEST(Gpt2Test, EqualsTransformers) {
  auto c = tiny_gpt2();
  expect_transformers(*model::make_gpt2(c), 5.812720964091812, 14.372957161886287);
  c.tied = false;
  c.activation = model::Activation::kGelu;
  c.scale_by_inverse_layer = true;
  expect_transformers(*model::make_gpt2(c), 5.907104858990969, 8.927793963549597);
}

TEST(LlamaTest, EqualsTransformers) {
  auto c = tiny_llama();
  expect_transformers(*model::make_llama(c), 4.004800048524477, 5.651007775481412);
  c.key_value_heads = 4;
  c.head_size = 10;
  c.rope_theta = 500.0;
  c.attention_bias = c.mlp_bias = c.tied = true;
  expect_transformers(*model::make_llama(c), 3.699106286742544, 1.5911421826391188);
}

TEST(ModelStagesTest, TiedHeadUsesTheEmbeddingUnitAndOwnsNoSecondWeight) {
  const auto m = model::make_gpt2(tiny_gpt2());
  ASSERT_EQ(m->units().size(), 4U);
  ASSERT_EQ(m->stages().size(), 4U);
  EXPECT_EQ(m->stages().back().units, (std::vector<std::uint32_t>{3, 0}));
  EXPECT_EQ(m->units().back().parameters.size(), 2U);
  auto untied = tiny_gpt2();
  untied.tied = false;
  const auto u = model::make_gpt2(untied);
  EXPECT_EQ(u->stages().back().units, (std::vector<std::uint32_t>{3}));
  EXPECT_EQ(u->units().back().parameters.back().name, "lm_head.weight");
  EXPECT_EQ(model::parameter_count(*u) - model::parameter_count(*m), 41U * 24U);
}

TEST(ModelStagesTest, HiddenStatesHaveTheModelsTypeAndShape) {
  const auto m = model::make_llama(tiny_llama());
  const auto leaves = make_leaves(*m, at::kBFloat16);
  const auto ids = make_ids(2, 5, 41, 1);
  const auto hidden = m->run_stage(0, stage_parameters(*m, leaves, 0), ids, {}, {});
  EXPECT_EQ(hidden.sizes(), at::IntArrayRef({2, 5, 24}));
  const auto next = m->run_stage(1, stage_parameters(*m, leaves, 1), hidden, {}, {});
  EXPECT_EQ(next.sizes(), hidden.sizes());
  EXPECT_EQ(next.scalar_type(), at::kBFloat16);
  const auto loss = run_model(*m, leaves, ids, ids);
  EXPECT_EQ(loss.scalar_type(), at::kFloat);
  loss.backward();
  for (const auto& [name, leaf] : leaves.by_name) {
    EXPECT_TRUE(leaf.grad().defined() && leaf.grad().scalar_type() == at::kBFloat16) << name;
  }
}

TEST(ModelStagesTest, BrainFloatLossIsNearTheExactOne) {
  const auto c = tiny_gpt2();
  const auto m = model::make_gpt2(c);
  const auto ids = make_ids(3, 11, 41, 1), targets = make_ids(3, 11, 41, 2);
  const double loss = run_model(*m, make_leaves(*m, at::kBFloat16), ids, targets).item<double>();
  const double exact = reference_gpt2(c, make_leaves(*m, at::kDouble).by_name, ids, targets).item<double>();
  EXPECT_NEAR(loss, exact, 0.03 * exact);
}

TEST(ModelStagesTest, TokensDontSeeTheFuture) {
  const auto m = model::make_llama(tiny_llama());
  const auto leaves = make_leaves(*m, at::kFloat);
  const auto ids = make_ids(1, 8, 41, 1);
  auto changed = ids.clone();
  changed[0][6] = (changed[0][6] + 1).remainder(41);
  const auto run = [&](const at::Tensor& tokens) {
    auto x = m->run_stage(0, stage_parameters(*m, leaves, 0), tokens, {}, {});
    return m->run_stage(1, stage_parameters(*m, leaves, 1), x, {}, {});
  };
  const auto a = run(ids), b = run(changed);
  EXPECT_TRUE(a.slice(1, 0, 6).equal(b.slice(1, 0, 6)));
  EXPECT_FALSE(a.slice(1, 6).equal(b.slice(1, 6)));
}

TEST(ModelStagesTest, TwoRunsGiveEqualBits) {
  const auto m = model::make_llama(tiny_llama());
  const auto ids = make_ids(3, 11, 41, 1), targets = make_ids(3, 11, 41, 2);
  const auto a = make_leaves(*m, at::kBFloat16), b = make_leaves(*m, at::kBFloat16);
  run_model(*m, a, ids, targets).backward();
  run_model(*m, b, ids, targets).backward();
  for (const auto& [name, leaf] : a.by_name) EXPECT_TRUE(leaf.grad().equal(b.by_name.at(name).grad())) << name;
}

TEST(ModelStagesTest, BadIdsThrow) {
  const auto m = model::make_gpt2(tiny_gpt2());
  const auto leaves = make_leaves(*m, at::kFloat);
  const auto parameters = stage_parameters(*m, leaves, 0);
  EXPECT_THROW((void)m->run_stage(0, parameters, make_ids(1, 17, 41, 1), {}, {}), c10::Error) << "beyond n_positions";
  EXPECT_THROW((void)m->run_stage(0, parameters, at::full({1, 4}, 41, at::kLong), {}, {}), c10::Error);
  EXPECT_THROW((void)run_model(*m, leaves, make_ids(1, 4, 41, 1), at::full({1, 4}, 41, at::kLong)), c10::Error);
}

TEST(ModelStagesDeathTest, WrongNumberOfParametersAborts) {
  const auto m = model::make_gpt2(tiny_gpt2());
  const auto leaves = make_leaves(*m, at::kFloat);
  EXPECT_DEATH((void)m->run_stage(1, stage_parameters(*m, leaves, 0), at::zeros({1, 2, 24}), {}, {}), "parameters");
}

TEST(CrossEntropyTest, ManyBlocksOfRowsEqualLibTorch) {
  // 2^22 elements per block: 70 rows of 2^17 are three blocks, the last one short.
  const auto logits = (at::arange(70 << 17, at::kFloat).remainder(1009) / 300).view({70, 1 << 17}).requires_grad_();
  const auto same = logits.detach().clone().requires_grad_();
  const auto targets = (at::arange(70, at::kLong) * 1871).remainder(1 << 17);
  const auto loss = model::cross_entropy(logits, targets);
  const auto expected = at::cross_entropy_loss(same, targets);
  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-6 * expected.item<double>());
  (loss * 3.0).backward();
  (expected * 3.0).backward();
  EXPECT_LE((logits.grad() - same.grad()).norm().item<double>(), 1e-6 * same.grad().norm().item<double>());
}

}  // namespace
}  // namespace strata::test
