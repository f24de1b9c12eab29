// Every instruction set against the scalar kernels, bit for bit.
#include <gtest/gtest.h>

#include "kernels/kernels.hpp"
#include "support/adam_data.hpp"

namespace strata::kernels {
namespace {

using test::AdamData;
using test::Offsets;

const AdamConstants kAdamW = {.grad_factor = 0.37F,
                              .one_minus_beta1 = 0.1F,
                              .beta2 = 0.999F,
                              .one_minus_beta2 = 0.001F,
                              .eps = 1e-8F,
                              .step_size = 1e-2F,
                              .inv_bias2_sqrt = 3.1F,
                              .decay_factor = 0.9999F,
                              .l2 = 0};

AdamConstants adam_l2() {
  AdamConstants c = kAdamW;
  c.decay_factor = 1;
  c.l2 = 0.01F;
  return c;
}

class AdamBitsTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!is_supported(GetParam())) GTEST_SKIP() << "this CPU does not run " << name_of(GetParam()) << " kernels";
  }
  const KernelTable& scalar_ = table_for(Isa::kScalar);
  const KernelTable& kernel() { return table_for(GetParam()); }

  /// fp32 gradient without a copy, then bf16 gradient with one.
  void expect_same(const AdamConstants& c, const AdamData& start) {
    AdamData expected = start;
    AdamData actual = start;
    scalar_.adam_fp32(c, expected.block32());
    kernel().adam_fp32(c, actual.block32());
    ASSERT_TRUE(expected.same_bits(actual)) << "fp32 gradient, n = " << start.n;
    scalar_.adam_bf16(c, expected.block16());
    kernel().adam_bf16(c, actual.block16());
    ASSERT_TRUE(expected.same_bits(actual)) << "bf16 gradient, n = " << start.n;
  }
};

TEST_P(AdamBitsTest, SizesAroundEveryWidthAndBlockBorder) {
  std::mt19937_64 random(test::test_seed());
  std::vector<std::size_t> sizes;
  for (std::size_t n = 0; n <= 132; ++n) sizes.push_back(n);
  for (const std::size_t border : {std::size_t{4096}, std::size_t{49152}}) {
    for (const int delta : {-33, -32, -17, -16, -1, 0, 1, 15, 16, 17, 31, 32, 33}) {
      sizes.push_back(border + static_cast<std::size_t>(delta));
    }
  }
  for (const std::size_t n : sizes) {
    AdamData data(n);
    data.fill(random);
    expect_same(kAdamW, data);
    expect_same(adam_l2(), data);
  }
}

TEST_P(AdamBitsTest, EveryAlignment) {
  std::mt19937_64 random(test::test_seed());
  std::uniform_int_distribution<std::size_t> offset(0, 33);
  for (std::size_t round = 0; round < 200; ++round) {
    // parameter16 decides how the streamed copy starts: all its positions in a line, the others at random.
    const Offsets at = {offset(random), offset(random), offset(random), offset(random), round % 33};
    AdamData data(round % 2 == 0 ? 4096 + offset(random) : 100 + offset(random), at);
    data.fill(random);
    expect_same(kAdamW, data);
  }
}

TEST_P(AdamBitsTest, EveryCombinationOfSpecialValues) {
  const std::vector<float>& values = test::special_floats();
  const std::size_t count = values.size();
  AdamData data(count * count * count * count);
  for (std::size_t i = 0; i < data.n; ++i) {
    data.master[i] = values[i % count];
    data.exp_avg[i] = values[i / count % count];
    data.exp_avg_sq[i] = values[i / count / count % count];
    data.gradient32[i] = values[i / count / count / count];
    data.gradient16[i] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(data.gradient32[i]) >> 16);
  }
  AdamConstants lr_zero = kAdamW;
  lr_zero.step_size = 0;
  lr_zero.decay_factor = 1;
  AdamConstants huge_eps = kAdamW;
  huge_eps.eps = 1e30F;
  AdamConstants no_eps = adam_l2();
  no_eps.eps = 0;
  AdamConstants overflow = kAdamW;
  overflow.grad_factor = std::numeric_limits<float>::infinity();
  for (const AdamConstants& c : {kAdamW, adam_l2(), lr_zero, huge_eps, no_eps, overflow}) expect_same(c, data);
}

TEST_P(AdamBitsTest, StoredNansAreCanonical) {
  AdamData data(40);
  for (std::size_t i = 0; i < data.n; ++i) {
    data.master[i] = data.exp_avg[i] = data.exp_avg_sq[i] = std::bit_cast<float>(0xffc00123u);
    data.gradient16[i] = 0xff81;
  }
  kernel().adam_bf16(kAdamW, data.block16());
  for (std::size_t i = 0; i < data.n; ++i) {
    EXPECT_EQ(std::bit_cast<std::uint32_t>(data.master[i]), 0x7fc00000u);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(data.exp_avg[i]), 0x7fc00000u);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(data.exp_avg_sq[i]), 0x7fc00000u);
    EXPECT_EQ(data.parameter16[i], 0x7fc0);
  }
}

TEST_P(AdamBitsTest, ResultDoesNotDependOnHowTheWorkIsCut) {
  std::mt19937_64 random(test::test_seed());
  AdamData whole(10'000);
  whole.fill(random);
  AdamData pieces = whole;
  kernel().adam_bf16(kAdamW, whole.block16());
  std::uniform_int_distribution<std::size_t> length(0, 5000);
  for (std::size_t first = 0; first < pieces.n;) {
    AdamBlock block = pieces.block16();
    block.n = std::min(length(random), pieces.n - first);
    block.master += first;
    block.exp_avg += first;
    block.exp_avg_sq += first;
    block.gradient = static_cast<const std::uint16_t*>(block.gradient) + first;
    block.parameter16 += first;
    kernel().adam_bf16(kAdamW, block);
    first += block.n;
  }
  EXPECT_TRUE(whole.same_bits(pieces));
}

INSTANTIATE_TEST_SUITE_P(Isa, AdamBitsTest, testing::Values(Isa::kScalar, Isa::kAvx512),
                         [](const auto& param) { return std::string(name_of(param.param)); });

TEST(DispatchTest, ChoosesASupportedSet) {
  EXPECT_TRUE(is_supported(Isa::kScalar));
  EXPECT_TRUE(is_supported(detect_isa()));
  EXPECT_EQ(table_for(detect_isa()).isa, detect_isa());
  EXPECT_EQ(name_of(Isa::kScalar), "scalar");
  EXPECT_EQ(name_of(Isa::kAvx512), "avx512");
}

}  // namespace
}  // namespace strata::kernels
