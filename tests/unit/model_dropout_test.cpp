// Keyed dropout: what a mask depends on, and what it doesn't.
#include <cmath>

#include <gtest/gtest.h>

#include "model/dropout.hpp"
#include "model/gpt2.hpp"
#include "model/llama.hpp"
#include "support/model_leaves.hpp"

namespace strata::test {
namespace {

using model::dropout;
using model::DropoutSite;
using model::RandomKey;
using model::StageContext;

StageContext train(RandomKey key) {
  return {key, StageContext::Mode::kTrain};
}

TEST(DropoutTest, EachPartOfTheKeyChangesTheMask) {
  const auto x = at::ones({2, 3, 501});
  const RandomKey key{1, 2, 3, 4};
  const auto base = dropout(x, 0.3, train(key), DropoutSite::kEmbedding);
  EXPECT_TRUE(base.equal(dropout(x, 0.3, train(key), DropoutSite::kEmbedding)));
  for (const auto& other :
       {RandomKey{9, 2, 3, 4}, RandomKey{1, 9, 3, 4}, RandomKey{1, 2, 9, 4}, RandomKey{1, 2, 3, 9}}) {
    EXPECT_FALSE(base.equal(dropout(x, 0.3, train(other), DropoutSite::kEmbedding)));
  }
  EXPECT_FALSE(base.equal(dropout(x, 0.3, train(key), DropoutSite::kMlpOutput)));
  EXPECT_FALSE(base[0].equal(base[1])) << "samples differ";
}

TEST(DropoutTest, MaskOfASampleDoesNotDependOnTheBatch) {
  const auto three = dropout(at::ones({3, 7, 11}), 0.5, train({5, 0, 0, 1}), DropoutSite::kAttention);
  const auto one = dropout(at::ones({1, 7, 11}), 0.5, train({5, 0, 0, 1}), DropoutSite::kAttention);
  EXPECT_TRUE(three[0].equal(one[0]));
}

TEST(DropoutTest, KeepsTheMeanAndScalesTheRest) {
  const std::int64_t n = 1 << 20;
  for (const double p : {0.1, 0.5, 0.9}) {
    const auto y = dropout(at::ones({1, n}), p, train({3, 1, 4, 1}), DropoutSite::kEmbedding);
    const double zeros = y.eq(0).sum().item<double>() / static_cast<double>(n);
    EXPECT_NEAR(zeros, p, 5.0 * std::sqrt(p * (1 - p) / static_cast<double>(n)));
    EXPECT_FLOAT_EQ(y.max().item<float>(), static_cast<float>(1.0 / (1.0 - p)));
  }
}

TEST(DropoutTest, GradientFollowsTheMask) {
  const auto x = at::ones({2, 65}).requires_grad_();
  const auto y = dropout(x, 0.4, train({1, 1, 1, 1}), DropoutSite::kEmbedding);
  y.sum().backward();
  EXPECT_TRUE(x.grad().equal(y.detach()));
}

TEST(DropoutTest, EvaluationAndZeroProbabilityPassThrough) {
  const auto x = at::ones({2, 5});
  EXPECT_TRUE(dropout(x, 0.9, {{}, StageContext::Mode::kEvaluate}, DropoutSite::kEmbedding).is_same(x));
  EXPECT_TRUE(dropout(x, 0.0, train({}), DropoutSite::kEmbedding).is_same(x));
}

std::unique_ptr<model::Model> dropping_gpt2() {
  model::Gpt2Config c;
  c.vocabulary = 41;
  c.positions = 16;
  c.hidden = 24;
  c.layers = 2;
  c.heads = 3;
  c.inner = 40;
  return model::make_gpt2(c);
}

TEST(ModelDropoutTest, EqualKeysGiveEqualLossAndGradients) {
  const auto m = dropping_gpt2();
  const auto ids = make_ids(2, 9, 41, 1);
  const auto a = make_leaves(*m, at::kFloat), b = make_leaves(*m, at::kFloat);
  const auto loss = run_model(*m, a, ids, ids, train({1, 5, 0, 0}));
  EXPECT_TRUE(loss.equal(run_model(*m, b, ids, ids, train({1, 5, 0, 0}))));
  EXPECT_FALSE(loss.equal(run_model(*m, b, ids, ids, train({1, 6, 0, 0}))));
  EXPECT_FALSE(loss.equal(run_model(*m, b, ids, ids, {{1, 5, 0, 0}, StageContext::Mode::kEvaluate})));
  loss.backward();
  run_model(*m, b, ids, ids, train({1, 5, 0, 0})).backward();
  for (const auto& [name, leaf] : a.by_name) EXPECT_TRUE(leaf.grad().equal(b.by_name.at(name).grad())) << name;
}

TEST(ModelDropoutTest, AttentionWithDropoutEqualsFusedAttentionWhenNothingDrops) {
  // A probability so small that no 32-bit word falls below its threshold.
  model::LlamaConfig c;
  c.vocabulary = 41;
  c.positions = 16;
  c.hidden = 24;
  c.layers = 2;
  c.heads = 4;
  c.key_value_heads = 2;
  c.head_size = 6;
  c.inner = 40;
  const auto fused = model::make_llama(c);
  c.attention_dropout = 1e-12;
  const auto plain = model::make_llama(c);
  const auto ids = make_ids(2, 9, 41, 1);
  const double expected = run_model(*fused, make_leaves(*fused, at::kFloat), ids, ids, train({})).item<double>();
  const double got = run_model(*plain, make_leaves(*plain, at::kFloat), ids, ids, train({})).item<double>();
  EXPECT_NEAR(got, expected, 2e-6 * expected);
}

}  // namespace
}  // namespace strata::test
