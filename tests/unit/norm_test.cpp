// Sums of squares: equal bits on every instruction set, and close to the exact sum.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/kernels.hpp"
#include "support/adam_data.hpp"

namespace strata::kernels {
namespace {

using test::Guarded;

class NormTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!is_supported(GetParam())) GTEST_SKIP() << "this CPU does not run " << name_of(GetParam()) << " kernels";
  }
  const KernelTable& scalar_ = table_for(Isa::kScalar);
  const KernelTable& kernel() { return table_for(GetParam()); }
};

TEST_P(NormTest, EqualBitsAndCloseToTheExactSum) {
  std::mt19937_64 random(test::test_seed());
  std::normal_distribution<float> normal;
  std::vector<std::size_t> sizes = {4079, 4080, 4081, 4095, 4096};
  for (std::size_t n = 0; n <= 70; ++n) sizes.push_back(n);
  for (const std::size_t n : sizes) {
    Guarded<float> from32(n, n % 19);
    Guarded<std::uint16_t> from16(n, n % 19);
    long double exact32 = 0;
    long double exact16 = 0;
    for (std::size_t i = 0; i < n; ++i) {
      from32[i] = std::exp(5 * normal(random));
      from16[i] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(from32[i]) >> 16);
      const long double wide = std::bit_cast<float>(std::uint32_t{from16[i]} << 16);
      exact32 += static_cast<long double>(from32[i]) * from32[i];
      exact16 += wide * wide;
    }
    const double sum32 = kernel().sum_squares_fp32(from32.data(), n);
    const double sum16 = kernel().sum_squares_bf16(from16.data(), n);
    EXPECT_EQ(std::bit_cast<std::uint64_t>(sum32),
              std::bit_cast<std::uint64_t>(scalar_.sum_squares_fp32(from32.data(), n)));
    EXPECT_EQ(std::bit_cast<std::uint64_t>(sum16),
              std::bit_cast<std::uint64_t>(scalar_.sum_squares_bf16(from16.data(), n)));
    // At most 256 additions per lane and 4 in the tree, each within 2^-53 of its result; all terms are positive.
    const double bound = 260 * 0x1p-53;
    EXPECT_NEAR(sum32, static_cast<double>(exact32), bound * sum32) << n;
    EXPECT_NEAR(sum16, static_cast<double>(exact16), bound * sum16) << n;
  }
}

TEST_P(NormTest, ShowsEveryNonFiniteElement) {
  for (std::size_t n = 1; n <= 40; ++n) {
    for (std::size_t bad = 0; bad < n; ++bad) {
      std::vector<float> from(n, 1.0F);
      from[bad] = -std::numeric_limits<float>::infinity();
      EXPECT_EQ(kernel().sum_squares_fp32(from.data(), n), std::numeric_limits<double>::infinity());
      from[bad] = std::bit_cast<float>(0xffc00001u);
      const double sum = kernel().sum_squares_fp32(from.data(), n);
      EXPECT_EQ(std::bit_cast<std::uint64_t>(sum), 0x7ff8000000000000u) << n << ' ' << bad;
    }
  }
}

TEST_P(NormTest, LargestAndSmallestValuesNeitherOverflowNorVanish) {
  const std::vector<float> large(kNormBlock, std::numeric_limits<float>::max());
  EXPECT_TRUE(std::isfinite(kernel().sum_squares_fp32(large.data(), large.size())));
  const std::vector<float> small(kNormBlock, std::numeric_limits<float>::denorm_min());
  EXPECT_EQ(kernel().sum_squares_fp32(small.data(), small.size()), kNormBlock * 0x1p-298);
}

INSTANTIATE_TEST_SUITE_P(Isa, NormTest, testing::Values(Isa::kScalar, Isa::kAvx512),
                         [](const auto& param) { return std::string(name_of(param.param)); });

}  // namespace
}  // namespace strata::kernels
