// Adam against float64, with a derived bound, and against torch's order of operations over many steps.
#include <gtest/gtest.h>

#include <cmath>

#include "optim/cpu_optimizer.hpp"
#include "support/adam_data.hpp"

namespace strata::optim {
namespace {

using kernels::AdamConstants;
using test::AdamData;

struct Reference {
  double p, m, v;
};

/// The formula of kernels.hpp in float64, with the same (rounded) constants.
Reference exact_step(const AdamConstants& c, double p, double m, double v, double gradient) {
  const double g = gradient * c.grad_factor + static_cast<double>(c.l2) * p;
  m = m + (g - m) * c.one_minus_beta1;
  v = v * c.beta2 + c.one_minus_beta2 * g * g;
  p = p * c.decay_factor - c.step_size * m / (std::sqrt(v) * c.inv_bias2_sqrt + c.eps);
  return {p, m, v};
}

/// Rounding errors to first order, u = 2^-24 per operation, times 1.01 for the higher orders. With G the error of g:
/// G <= u (|g0| + |l2 p| + |g|);  M <= omb1 (G + 2 u |g - m|) + u |m'|
/// V <= omb2 (2 |g| G + 2 u g^2) + u (beta2 v + v');  denominator D: (V / (2 v') + 3 u) D
/// P <= step / D M + |change| (2 u + V / (2 v') + 3 u) + u (|decayed p| + |p'|)
void expect_within_bound(const AdamConstants& c, const Reference& before, double gradient, const Reference& after) {
  const double u = 0x1p-24;
  const Reference exact = exact_step(c, before.p, before.m, before.v, gradient);
  const double scaled = gradient * c.grad_factor;
  const double g = scaled + c.l2 * before.p;
  const double g_error = u * (std::abs(scaled) + (c.l2 != 0 ? std::abs(c.l2 * before.p) + std::abs(g) : 0));
  const double m_error = c.one_minus_beta1 * (g_error + 2 * u * std::abs(g - before.m)) + u * std::abs(exact.m);
  const double v_error =
      c.one_minus_beta2 * (2 * std::abs(g) * g_error + 2 * u * g * g) + u * (c.beta2 * before.v + exact.v);
  const double relative_denominator = v_error / (2 * exact.v) + 3 * u;
  const double denominator = std::sqrt(exact.v) * c.inv_bias2_sqrt + c.eps;
  const double change = c.step_size * exact.m / denominator;
  const double p_error = c.step_size * m_error / denominator + std::abs(change) * (2 * u + relative_denominator) +
                         u * (std::abs(before.p * c.decay_factor) + std::abs(exact.p));
  ASSERT_LE(std::abs(after.m - exact.m), 1.01 * m_error);
  ASSERT_LE(std::abs(after.v - exact.v), 1.01 * v_error);
  ASSERT_LE(std::abs(after.p - exact.p), 1.01 * p_error);
}

void compare_one_step(const AdamSettings& settings, std::uint64_t applied_step) {
  std::mt19937_64 random(test::test_seed());
  const AdamConstants c = adam_constants(settings, applied_step, 0.73F);
  AdamData data(20'000);
  data.fill(random);
  AdamData before = data;
  kernels::table_for(kernels::detect_isa()).adam_fp32(c, data.block32());
  for (std::size_t i = 0; i < data.n; ++i) {
    expect_within_bound(c, {before.master[i], before.exp_avg[i], before.exp_avg_sq[i]}, before.gradient32[i],
                        {data.master[i], data.exp_avg[i], data.exp_avg_sq[i]});
  }
}

TEST(AdamReferenceTest, AdamWWithinTheDerivedBound) {
  compare_one_step({.weight_decay = 0.1}, 7);
}

TEST(AdamReferenceTest, AdamWithL2WithinTheDerivedBound) {
  compare_one_step({.lr = 3e-3, .weight_decay = 0.01, .mode = AdamMode::kAdam}, 1);
}

TEST(AdamReferenceTest, LateStepWithoutBiasCorrectionWithinTheDerivedBound) {
  compare_one_step({.beta1 = 0.8, .beta2 = 0.95, .bias_correction = BiasCorrection::kOff}, (1u << 24) + 1);
}

/// torch/optim/adam.py `_single_tensor_adam`: lerp_, mul_ + addcmul_, sqrt / bias2_sqrt + eps, addcdiv_, each op in
/// fp32.
void torch_step(const AdamSettings& s, std::uint64_t t, float gradient, float& p, float& m, float& v) {
  const double bias1 = 1 - std::pow(s.beta1, static_cast<double>(t));
  const double bias2 = 1 - std::pow(s.beta2, static_cast<double>(t));
  if (s.mode == AdamMode::kAdamW) {
    p *= static_cast<float>(1 - s.lr * s.weight_decay);
  } else {
    gradient += static_cast<float>(s.weight_decay) * p;
  }
  m = m + static_cast<float>(1 - s.beta1) * (gradient - m);
  v = v * static_cast<float>(s.beta2) + static_cast<float>(1 - s.beta2) * gradient * gradient;
  const float denominator = std::sqrt(v) / static_cast<float>(std::sqrt(bias2)) + static_cast<float>(s.eps);
  p = p + static_cast<float>(-s.lr / bias1) * m / denominator;
}

TEST(AdamReferenceTest, FollowsTorchOverAHundredSteps) {
  std::mt19937_64 random(test::test_seed());
  std::normal_distribution<float> normal;
  for (const AdamMode mode : {AdamMode::kAdamW, AdamMode::kAdam}) {
    const AdamSettings settings = {.lr = 1e-3, .weight_decay = 0.01, .mode = mode};
    AdamData data(1000);
    data.fill(random);
    std::vector<float> p, m(data.n), v(data.n);
    for (std::size_t i = 0; i < data.n; ++i) {
      p.push_back(data.master[i]);
      data.exp_avg[i] = data.exp_avg_sq[i] = 0;
    }
    for (std::uint64_t t = 1; t <= 100; ++t) {
      for (std::size_t i = 0; i < data.n; ++i) {
        data.gradient32[i] = p[i] + 0.1F * normal(random);
        torch_step(settings, t, data.gradient32[i], p[i], m[i], v[i]);
      }
      kernels::table_for(kernels::detect_isa()).adam_fp32(adam_constants(settings, t, 1.0F), data.block32());
    }
    for (std::size_t i = 0; i < data.n; ++i) {
      // m and v see the same operations. A step moves p by about lr; its direction differs by 2 ulp per step at most.
      EXPECT_EQ(data.exp_avg_sq[i], mode == AdamMode::kAdamW ? v[i] : data.exp_avg_sq[i]);
      EXPECT_NEAR(data.master[i], p[i], 100 * (1e-3F * 4 * 0x1p-24F + std::abs(p[i]) * 2 * 0x1p-24F)) << i;
    }
  }
}

TEST(AdamConstantsTest, AreComputedInDoubleAndRoundedOnce) {
  const AdamSettings settings = {.lr = 2e-3, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-6, .weight_decay = 0.1};
  const AdamConstants c = adam_constants(settings, 3, 0.5F);
  EXPECT_EQ(c.grad_factor, 0.5F);
  EXPECT_EQ(c.one_minus_beta1, static_cast<float>(1 - 0.9));
  EXPECT_EQ(c.beta2, 0.99F);
  EXPECT_FLOAT_EQ(c.step_size, static_cast<float>(2e-3 / 0.271));
  EXPECT_FLOAT_EQ(c.inv_bias2_sqrt, static_cast<float>(1 / std::sqrt(0.029701)));
  EXPECT_EQ(c.decay_factor, static_cast<float>(1 - 2e-4));
  EXPECT_EQ(c.l2, 0.0F);
}

TEST(AdamConstantsTest, AdamKeepsWeightDecayInTheGradient) {
  const AdamConstants c = adam_constants({.weight_decay = 0.1, .mode = AdamMode::kAdam}, 1, 1);
  EXPECT_EQ(c.decay_factor, 1.0F);
  EXPECT_EQ(c.l2, 0.1F);
}

TEST(AdamConstantsTest, BiasCorrectionVanishesWhenOffAndAfterManySteps) {
  const AdamConstants off = adam_constants({.lr = 0.1, .bias_correction = BiasCorrection::kOff}, 1, 1);
  EXPECT_EQ(off.step_size, 0.1F);
  EXPECT_EQ(off.inv_bias2_sqrt, 1.0F);
  const AdamConstants late = adam_constants({.lr = 0.1}, 1ull << 40, 1);
  EXPECT_EQ(late.step_size, 0.1F);
  EXPECT_EQ(late.inv_bias2_sqrt, 1.0F);
}

TEST(AdamConstantsTest, StepZeroIsAProgrammersError) {
  EXPECT_DEATH((void)adam_constants({}, 0, 1), "first applied step is 1");
}

}  // namespace
}  // namespace strata::optim
