// Rounding, widening and accumulation, on every instruction set.
#include <gtest/gtest.h>

#include "kernels/kernels.hpp"
#include "support/adam_data.hpp"

namespace strata::kernels {
namespace {

using test::bits_of;
using test::Guarded;

class ConvertTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!is_supported(GetParam())) GTEST_SKIP() << "this CPU does not run " << name_of(GetParam()) << " kernels";
  }
  const KernelTable& kernel() { return table_for(GetParam()); }

  std::uint16_t round(std::uint32_t bits) {
    const float from = std::bit_cast<float>(bits);
    std::uint16_t to = 0;
    kernel().round_to_bf16(&from, &to, 1);
    return to;
  }
};

TEST_P(ConvertTest, RoundsTiesAwayFromZero) {
  EXPECT_EQ(round(0x3f800000u), 0x3f80);  // 1
  EXPECT_EQ(round(0x3f807fffu), 0x3f80);  // just below the tie
  EXPECT_EQ(round(0x3f808000u), 0x3f81);  // tie; to even would stay
  EXPECT_EQ(round(0xbf808000u), 0xbf81);
  EXPECT_EQ(round(0x80000000u), 0x8000);  // -0
  EXPECT_EQ(round(0x00008000u), 0x0001);  // a denormal
  EXPECT_EQ(round(0x7f7fffffu), 0x7f80);  // the largest float becomes inf
  EXPECT_EQ(round(0xff800000u), 0xff80);  // -inf
  EXPECT_EQ(round(0x7f800001u), 0x7fc0);  // NaNs lose sign and payload
  EXPECT_EQ(round(0xffffffffu), 0x7fc0);
}

TEST_P(ConvertTest, RoundsRandomBitsAsTheFormulaSays) {
  std::mt19937_64 random(test::test_seed());
  for (std::size_t n = 0; n <= 100; ++n) {
    Guarded<float> from(n, n % 17);
    Guarded<std::uint16_t> to(n, n % 33);
    Guarded<std::uint16_t> expected = to;
    for (std::size_t i = 0; i < n; ++i) {
      const auto bits = static_cast<std::uint32_t>(random());
      from[i] = std::bit_cast<float>(bits);
      expected[i] = from[i] != from[i] ? 0x7fc0 : static_cast<std::uint16_t>((bits + 0x8000u) >> 16);
    }
    kernel().round_to_bf16(from.data(), to.data(), n);
    ASSERT_EQ(to.all(), expected.all()) << n;
  }
}

TEST_P(ConvertTest, RemainderOfTheRoundingFitsSixteenBits) {
  std::mt19937_64 random(test::test_seed());
  for (int i = 0; i < 100'000; ++i) {
    const auto bits = static_cast<std::uint32_t>(random());
    if ((bits & 0x7fffffffu) >= 0x7f7f8000u) continue;  // rounds to inf, or is inf or NaN
    const std::uint32_t high = std::uint32_t{round(bits)} << 16;
    const auto remainder = static_cast<std::int32_t>(bits - high);
    ASSERT_GE(remainder, -0x8000) << bits;
    ASSERT_LE(remainder, 0x7fff) << bits;
  }
}

TEST_P(ConvertTest, WideningIsExactForAllValues) {
  for (const std::size_t n : {65536u, 65535u, 17u}) {
    Guarded<std::uint16_t> from(n, 1);
    Guarded<float> to(n, 3);
    Guarded<float> expected = to;
    for (std::size_t i = 0; i < n; ++i) {
      from[i] = static_cast<std::uint16_t>(i * 40503u);
      expected[i] = std::bit_cast<float>(std::uint32_t{from[i]} << 16);
    }
    kernel().widen_bf16(from.data(), to.data(), n);
    ASSERT_EQ(bits_of(to.all()), bits_of(expected.all()));
  }
}

TEST_P(ConvertTest, AddsAsScalarFloatsDo) {
  std::mt19937_64 random(test::test_seed());
  for (std::size_t n = 0; n <= 100; ++n) {
    Guarded<float> sum(n, n % 5);
    Guarded<float> from32(n, n % 7);
    Guarded<std::uint16_t> from16(n, n % 3);
    for (std::size_t i = 0; i < n; ++i) {
      sum[i] = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
      from32[i] = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
      from16[i] = static_cast<std::uint16_t>(random());
    }
    Guarded<float> expected = sum;
    const auto add = [&](std::size_t i, float x) {
      expected[i] += x;
      if (expected[i] != expected[i]) expected[i] = std::bit_cast<float>(0x7fc00000u);
    };
    for (std::size_t i = 0; i < n; ++i) add(i, from32[i]);
    kernel().add_fp32(from32.data(), sum.data(), n);
    ASSERT_EQ(bits_of(sum.all()), bits_of(expected.all())) << n;
    for (std::size_t i = 0; i < n; ++i) add(i, std::bit_cast<float>(std::uint32_t{from16[i]} << 16));
    kernel().add_bf16_to_fp32(from16.data(), sum.data(), n);
    ASSERT_EQ(bits_of(sum.all()), bits_of(expected.all())) << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, ConvertTest, testing::Values(Isa::kScalar, Isa::kAvx512),
                         [](const auto& param) { return std::string(name_of(param.param)); });

}  // namespace
}  // namespace strata::kernels
