// CpuOptimizer: equal bits at any number of threads and any cut into pieces; what it leaves behind in the caller.
#include <gtest/gtest.h>
#include <oneapi/tbb/global_control.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include <thread>

#include "optim/cores.hpp"
#include "optim/cpu_optimizer.hpp"
#include "support/adam_data.hpp"

namespace strata::optim {
namespace {

using kernels::Isa;
using test::AdamData;

AdamPiece piece_of(AdamData& data, std::size_t first, std::size_t n, std::uint64_t applied_step) {
  AdamPiece piece;
  piece.constants = adam_constants({.lr = 1e-2, .weight_decay = 0.1}, applied_step, 0.5F);
  piece.block = {data.master.data() + first,     data.exp_avg.data() + first,     data.exp_avg_sq.data() + first,
                 data.gradient16.data() + first, data.parameter16.data() + first, n};
  piece.gradient_type = DType::kBFloat16;
  return piece;
}

class CpuOptimizerTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(allowed_cpus(), cpus_) << "the caller was left bound to a core"; }

  const std::vector<int> cpus_ = allowed_cpus();
  // More threads than CPUs, so that 3 and 5 threads really run on a small machine.
  tbb::global_control workers_{tbb::global_control::max_allowed_parallelism, 8};
  std::mt19937_64 random_{test::test_seed()};
};

TEST_F(CpuOptimizerTest, EqualBitsForEveryThreadCountIsaAndCut) {
  AdamData start(300'007, {1, 2, 3, 4, 5});
  start.fill(random_);
  AdamData expected = start;
  CpuOptimizer one({.threads = 1, .isa = Isa::kScalar});
  const AdamPiece whole = piece_of(expected, 0, expected.n, 3);
  one.step({&whole, 1});
  for (const Isa isa : {Isa::kScalar, Isa::kAvx512}) {
    if (!kernels::is_supported(isa)) continue;
    for (const std::uint32_t threads : {1u, 2u, 3u, 5u, 0u}) {
      CpuOptimizer optimizer({.threads = threads, .isa = isa});
      AdamData data = start;
      const std::size_t cuts[] = {0, 1, 17, 17, 5000, 54'152, 200'000, data.n};
      std::vector<AdamPiece> pieces;
      for (std::size_t i = 0; i + 1 < std::size(cuts); ++i) {
        pieces.push_back(piece_of(data, cuts[i], cuts[i + 1] - cuts[i], 3));
      }
      optimizer.step(pieces);
      EXPECT_TRUE(data.same_bits(expected)) << name_of(isa) << ", threads " << threads;
    }
  }
}

TEST_F(CpuOptimizerTest, ManySmallPiecesEachWithItsOwnConstants) {
  AdamData start(1000 * 100);
  start.fill(random_);
  AdamData expected = start;
  AdamData data = start;
  CpuOptimizer one({.threads = 1, .isa = Isa::kScalar});
  CpuOptimizer many({.threads = 3, .isa = kernels::detect_isa()});
  std::vector<AdamPiece> pieces;
  for (std::size_t i = 0; i < 1000; ++i) {
    const AdamPiece piece = piece_of(expected, i * 100, 100, i + 1);
    one.step({&piece, 1});
    pieces.push_back(piece_of(data, i * 100, 100, i + 1));
  }
  many.step(pieces);
  EXPECT_TRUE(data.same_bits(expected));
}

TEST_F(CpuOptimizerTest, SumsOfSquaresDoNotDependOnThreadsOrIsa) {
  AdamData data(200'000);
  data.fill(random_);
  const NormPiece pieces[] = {{data.gradient32.data(), 150'001, DType::kFloat32},
                              {nullptr, 0, DType::kFloat32},
                              {data.gradient16.data(), data.n, DType::kBFloat16},
                              {data.gradient32.data(), 3, DType::kFloat32}};
  std::vector<double> expected(4);
  for (std::size_t piece : {0u, 2u, 3u}) {
    const kernels::KernelTable& scalar = kernels::table_for(Isa::kScalar);
    for (std::size_t i = 0; i < pieces[piece].n; i += kernels::kNormBlock) {
      const std::size_t n = std::min(kernels::kNormBlock, pieces[piece].n - i);
      expected[piece] += piece == 2 ? scalar.sum_squares_bf16(data.gradient16.data() + i, n)
                                    : scalar.sum_squares_fp32(data.gradient32.data() + i, n);
    }
  }
  for (const std::uint32_t threads : {1u, 2u, 3u, 5u}) {
    CpuOptimizer optimizer({.threads = threads, .isa = kernels::detect_isa()});
    std::vector<double> sums(4, -1);
    optimizer.sum_squares(pieces, sums);
    EXPECT_EQ(sums, expected) << threads;
  }
}

TEST_F(CpuOptimizerTest, RoundsAndAccumulatesWholeArrays) {
  AdamData data(130'001);
  data.fill(random_);
  CpuOptimizer optimizer({.threads = 2, .isa = kernels::detect_isa()});
  std::vector<std::uint16_t> rounded(data.n);
  optimizer.round_to_bf16({data.master.data(), data.n}, rounded);
  std::vector<float> sum(data.n, 1.0F);
  optimizer.accumulate({data.gradient16.data(), data.n, DType::kBFloat16}, sum);
  optimizer.accumulate({data.gradient32.data(), data.n, DType::kFloat32}, sum);
  for (std::size_t i = 0; i < data.n; ++i) {
    ASSERT_EQ(rounded[i], (std::bit_cast<std::uint32_t>(data.master[i]) + 0x8000u) >> 16) << i;
    const float wide = std::bit_cast<float>(std::uint32_t{data.gradient16[i]} << 16);
    ASSERT_EQ(sum[i], 1.0F + wide + data.gradient32[i]) << i;
  }
}

TEST_F(CpuOptimizerTest, NothingToDoIsDone) {
  CpuOptimizer optimizer({.threads = 2, .isa = kernels::detect_isa()});
  optimizer.step({});
  optimizer.sum_squares({}, {});
  optimizer.round_to_bf16({}, {});
  EXPECT_EQ(optimizer.threads(), 2u);
  EXPECT_EQ(optimizer.isa(), kernels::detect_isa());
}

TEST_F(CpuOptimizerTest, GivesTheCallerItsAffinityBack) {
  const std::vector<int> before = allowed_cpus();
  CpuOptimizer optimizer({.isa = kernels::detect_isa()});
  EXPECT_EQ(optimizer.threads(), physical_cores(before).size());
  EXPECT_EQ(optimizer.pinned(), optimizer.threads() > 1);
  AdamData data(200'000);
  data.fill(random_);
  const AdamPiece piece = piece_of(data, 0, data.n, 1);
  for (int i = 0; i < 20; ++i) {
    optimizer.step({&piece, 1});
    ASSERT_EQ(allowed_cpus(), before);
  }
  EXPECT_FALSE(CpuOptimizer({.threads = 1}).pinned());
  EXPECT_FALSE(CpuOptimizer({.pinning = Pinning::kNone}).pinned());
}

#if defined(__x86_64__)
TEST_F(CpuOptimizerTest, FlushToZeroInTheCallerChangesNoBits) {
  constexpr unsigned kFlushAndTruncate = 0x1f80 | 0x8040 | 0x6000;  // FTZ, DAZ, toward zero
  AdamData start(100'000);
  start.fill(random_);
  for (std::size_t i = 0; i < start.n; ++i) start.exp_avg[i] *= 1e-38F;
  for (const std::size_t n : {std::size_t{100}, start.n}) {  // done by the caller; by the workers too
    AdamData expected = start;
    AdamData data = start;
    CpuOptimizer optimizer({.threads = 2, .isa = kernels::detect_isa()});
    const AdamPiece clean = piece_of(expected, 0, n, 1);
    optimizer.step({&clean, 1});
    const AdamPiece dirty = piece_of(data, 0, n, 1);
    const unsigned before = _mm_getcsr();
    _mm_setcsr(kFlushAndTruncate);
    optimizer.step({&dirty, 1});
    EXPECT_EQ(_mm_getcsr() & ~0x3fu, kFlushAndTruncate);  // but for the sticky exception flags
    _mm_setcsr(before);
    EXPECT_TRUE(data.same_bits(expected)) << n;
  }
}
#endif

using CpuOptimizerDeathTest = CpuOptimizerTest;

TEST_F(CpuOptimizerDeathTest, MismatchedSizesAndTypesStopTheProgram) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  CpuOptimizer optimizer({.threads = 1});
  std::vector<float> three(3);
  std::vector<std::uint16_t> two(2);
  std::vector<double> sums(1);
  EXPECT_DEATH(optimizer.round_to_bf16(three, two), "as many elements");
  EXPECT_DEATH(optimizer.sum_squares({}, sums), "one sum per piece");
  EXPECT_DEATH(optimizer.accumulate({two.data(), 2, DType::kFloat16}, std::span(three).first(2)), "fp32 or bf16");
}

}  // namespace
}  // namespace strata::optim
