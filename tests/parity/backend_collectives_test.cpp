// zero::Collectives over c10d's Backend: values, order of ranks, and what becomes of exceptions.
#include <functional>
#include <thread>

#include <gtest/gtest.h>

#include "support/fake_backend.hpp"
#include "zero/backend_collectives.hpp"

namespace strata::zero {
namespace {

using testing::FakeBackend;
using testing::FakeWire;

struct Rank {
  std::unique_ptr<Collectives> collectives;
  FakeBackend* backend = nullptr;
};

/// Runs `work` on `size` ranks at once.
void on_ranks(int size, const std::function<void(int, Rank&)>& work, OrderCheck check = OrderCheck::kEveryCall,
              std::chrono::milliseconds patience = std::chrono::seconds(10)) {
  const auto wire = std::make_shared<FakeWire>(size, patience);
  std::vector<std::jthread> threads;
  for (int r = 0; r < size; ++r) {
    threads.emplace_back([&, r] {
      auto backend = c10::make_intrusive<FakeBackend>(wire, r);
      Rank rank{nullptr, backend.get()};
      rank.collectives = collectives_over(std::move(backend), check);
      work(r, rank);
    });
  }
}

template <class T>
std::span<std::byte> bytes(std::vector<T>& values) {
  return std::as_writable_bytes(std::span(values));
}

TEST(BackendCollectivesTest, GathersShardsInRankOrder) {
  on_ranks(3, [](int r, Rank& rank) {
    EXPECT_EQ(rank.collectives->rank(), static_cast<std::uint32_t>(r));
    EXPECT_EQ(rank.collectives->world_size(), 3u);
    std::vector<float> shard = {static_cast<float>(r), static_cast<float>(r) + 0.5f};
    std::vector<float> full(6, -1);
    const auto status = rank.collectives->all_gather(bytes(shard), bytes(full), DType::kFloat32, {UnitId(2), 1, 7});
    EXPECT_TRUE(status) << to_string(status.error());
    EXPECT_EQ(full, (std::vector<float>{0, 0.5f, 1, 1.5f, 2, 2.5f}));
  });
}

TEST(BackendCollectivesTest, ReducesToTheMeanOfEachRanksSlice) {
  on_ranks(4, [](int r, Rank& rank) {
    std::vector<float> full(8);
    for (std::size_t i = 0; i < full.size(); ++i) full[i] = static_cast<float>(i) + static_cast<float>(r) * 10;
    std::vector<float> shard(2, -1);
    ASSERT_TRUE(rank.collectives->reduce_scatter_mean(bytes(full), bytes(shard), DType::kFloat32, {UnitId(0), 0, 0}));
    EXPECT_EQ(shard, (std::vector<float>{static_cast<float>(2 * r) + 15, static_cast<float>(2 * r) + 16}));
  });
}

TEST(BackendCollectivesTest, TheMeanOfBf16IsRoundedToNearest) {
  on_ranks(3, [](int r, Rank& rank) {
    std::vector<c10::BFloat16> full(3, c10::BFloat16(r == 2 ? 2.0f : 1.0f));
    std::vector<c10::BFloat16> shard(1);
    ASSERT_TRUE(rank.collectives->reduce_scatter_mean(bytes(full), bytes(shard), DType::kBFloat16, {UnitId(0), 0, 0}));
    EXPECT_EQ(static_cast<float>(shard[0]), 171.0f / 128);  // 4/3 = 170.67/128
  });
}

TEST(BackendCollectivesTest, SumsDoublesAlikeOnEveryRank) {
  std::vector<double> sums(4);
  on_ranks(4, [&sums](int r, Rank& rank) {
    std::vector<double> values = {0.1 * (r + 1), 1e300, static_cast<double>(r)};
    ASSERT_TRUE(rank.collectives->all_reduce_sum(values));
    EXPECT_EQ(values[1], 4e300);
    EXPECT_EQ(values[2], 6.0);
    sums[static_cast<std::size_t>(r)] = values[0];
  });
  EXPECT_NEAR(sums[0], 1.0, 1e-15);
  for (const double sum : sums) EXPECT_EQ(sum, sums[0]);
}

/// Two ranks gather two units of equal size; rank 1 in the other order.
void gather_in_opposite_order(OrderCheck check, std::vector<Status>& first, std::vector<std::vector<float>>& gathered) {
  first.resize(2);
  gathered.assign(2, {});
  on_ranks(
      2,
      [&](int r, Rank& rank) {
        for (int turn = 0; turn < 2; ++turn) {
          const int unit = r == 0 ? turn : 1 - turn;
          std::vector<float> shard = {static_cast<float>(unit * 10 + r)};
          std::vector<float> full(2, -1);
          auto status = rank.collectives->all_gather(bytes(shard), bytes(full), DType::kFloat32,
                                                     {UnitId(static_cast<std::uint32_t>(unit)), 0, 3});
          if (turn == 0) {
            first[static_cast<std::size_t>(r)] = status;
            gathered[static_cast<std::size_t>(r)] = full;
          }
          if (!status) return;
        }
      },
      check);
}

TEST(BackendCollectivesTest, RanksInDifferentOrderAreToldSoAndNamed) {
  std::vector<Status> status;
  std::vector<std::vector<float>> gathered;
  gather_in_opposite_order(OrderCheck::kEveryCall, status, gathered);
  for (std::size_t r = 0; r < 2; ++r) {
    ASSERT_FALSE(status[r]);
    EXPECT_EQ(status[r].error().code, ErrorCode::kInternal);
    EXPECT_NE(status[r].error().message.find("rank 0 gathers unit 0 section 0"), std::string::npos)
        << status[r].error().message;
    EXPECT_NE(status[r].error().message.find("rank 1 gathers unit 1 section 0"), std::string::npos)
        << status[r].error().message;
    EXPECT_EQ(gathered[r], (std::vector<float>{-1, -1})) << "data was moved all the same";
  }
}

TEST(BackendCollectivesTest, WithoutTheCheckDataIsSwappedSilently) {  // so the fake is as treacherous as the real ones
  std::vector<Status> status;
  std::vector<std::vector<float>> gathered;
  gather_in_opposite_order(OrderCheck::kNever, status, gathered);
  ASSERT_TRUE(status[0] && status[1]);
  EXPECT_EQ(gathered[0], (std::vector<float>{0, 11}));  // unit 0 of rank 0, unit 1 of rank 1
}

TEST(BackendCollectivesTest, ADifferentKindVisitOrSizeIsFoundBeforeDataMoves) {
  for (int what = 0; what < 3; ++what) {
    SCOPED_TRACE(what);
    on_ranks(2, [what](int r, Rank& rank) {
      std::vector<float> full(what == 2 && r == 1 ? 4 : 2, 1), shard(full.size() / 2, -1);
      const CollectiveTag tag{UnitId(4), 0, what == 1 ? 5u + static_cast<unsigned>(r) : 5u};
      Collectives& all = *rank.collectives;
      const Status status = what == 0 && r == 1
                                ? all.all_gather(bytes(shard), bytes(full), DType::kFloat32, tag)
                                : all.reduce_scatter_mean(bytes(full), bytes(shard), DType::kFloat32, tag);
      ASSERT_FALSE(status);
      EXPECT_NE(status.error().message.find("out of step"), std::string::npos) << status.error().message;
      EXPECT_EQ(rank.backend->calls(), 1);
    });
  }
}

TEST(BackendCollectivesTest, AStrayReductionMeetsAGather) {
  on_ranks(2, [](int r, Rank& rank) {
    std::vector<float> shard(1), full(2);
    std::vector<double> values = {1};
    const Status status = r == 0 ? rank.collectives->all_gather(bytes(shard), bytes(full), DType::kFloat32, {})
                                 : rank.collectives->all_reduce_sum(values);
    ASSERT_FALSE(status);
    EXPECT_NE(status.error().message.find("sums numbers"), std::string::npos) << status.error().message;
  });
}

TEST(BackendCollectivesTest, AnExceptionOfTheBackendIsAnErrorOfOneLine) {
  on_ranks(2, [](int, Rank& rank) {
    rank.backend->lose_connection();
    std::vector<float> shard(1), full(2);
    std::vector<double> values = {1};
    for (const Status& status : {rank.collectives->all_gather(bytes(shard), bytes(full), DType::kFloat32, {UnitId(9)}),
                                 rank.collectives->reduce_scatter_mean(bytes(full), bytes(shard), DType::kFloat32, {}),
                                 rank.collectives->all_reduce_sum(values)}) {
      ASSERT_FALSE(status);
      EXPECT_EQ(status.error().code, ErrorCode::kIo);
      EXPECT_NE(status.error().message.find("connection closed by peer"), std::string::npos);
      EXPECT_EQ(status.error().message.find('\n'), std::string::npos);
      EXPECT_FALSE(status.error().hint.empty());
    }
  });
}

TEST(BackendCollectivesTest, APeerThatNeverComesIsAnErrorNotAHang) {
  on_ranks(
      2,
      [](int r, Rank& rank) {
        if (r == 1) return;
        std::vector<float> shard(1), full(2);
        const auto status = rank.collectives->all_gather(bytes(shard), bytes(full), DType::kFloat32, {UnitId(3), 0, 1});
        ASSERT_FALSE(status);
        EXPECT_NE(status.error().message.find("timed out"), std::string::npos);
        EXPECT_NE(status.error().message.find("unit 3"), std::string::npos);
      },
      OrderCheck::kEveryCall, std::chrono::milliseconds(50));
}

TEST(BackendCollectivesTest, OneRankWorksToo) {
  on_ranks(1, [](int, Rank& rank) {
    std::vector<float> shard = {3, 4}, full(2);
    ASSERT_TRUE(rank.collectives->all_gather(bytes(shard), bytes(full), DType::kFloat32, {}));
    EXPECT_EQ(full, shard);
    ASSERT_TRUE(rank.collectives->reduce_scatter_mean(bytes(shard), bytes(full), DType::kFloat32, {}));
    EXPECT_EQ(full, shard);
  });
}

}  // namespace
}  // namespace strata::zero
