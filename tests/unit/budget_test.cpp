#include "tiers/budget.hpp"

#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace strata::tiers {
namespace {

TEST(BudgetTest, RefusesWhatDoesNotFitAndSaysSo) {
  Budget budget(Tier::kHost, Bytes(100));
  const auto first = budget.reserve(Kind::kParameter, Bytes(60));
  ASSERT_TRUE(first);
  const auto second = budget.reserve(Kind::kGradient, Bytes(41));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kDoesNotFit);
  for (const char* part : {"host", "gradient", "41", "40", "100"}) {
    EXPECT_NE(second.error().message.find(part), std::string::npos) << second.error().message << " lacks " << part;
  }
  EXPECT_FALSE(second.error().hint.empty());
  EXPECT_EQ(budget.use().used, Bytes(60));
}

TEST(BudgetTest, ExactFitIsAccepted) {
  Budget budget(Tier::kDevice, Bytes(100));
  EXPECT_TRUE(budget.reserve(Kind::kOther, Bytes(100)));
  EXPECT_TRUE(budget.reserve(Kind::kOther, Bytes(100))) << "the first was given back at once";
}

TEST(BudgetTest, HugeRequestDoesNotWrapAround) {
  Budget budget(Tier::kDevice, Bytes(100));
  const auto some = budget.reserve(Kind::kOther, Bytes(1));
  EXPECT_FALSE(budget.reserve(Kind::kOther, Bytes(~0ull)));
}

TEST(BudgetTest, PeakIsTheHighWaterMarkSinceTheReset) {
  Budget budget(Tier::kHost, Bytes(100));
  { const auto all = budget.reserve(Kind::kStaging, Bytes(90)); }
  const auto some = budget.reserve(Kind::kStaging, Bytes(10));
  EXPECT_EQ(budget.use().peak, Bytes(90));
  budget.reset_peak();
  EXPECT_EQ(budget.use().peak, Bytes(10));
}

TEST(ReservationTest, MoveAssignReleasesOldBytes) {
  Budget budget(Tier::kHost, Bytes(100));
  auto a = budget.reserve(Kind::kParameter, Bytes(30)).value();
  auto b = budget.reserve(Kind::kGradient, Bytes(50)).value();
  a = std::move(b);
  EXPECT_EQ(budget.use().used, Bytes(50));
  EXPECT_EQ(budget.use().by_kind[static_cast<std::size_t>(Kind::kParameter)], Bytes(0));
  EXPECT_EQ(budget.use().by_kind[static_cast<std::size_t>(Kind::kGradient)], Bytes(50));
  EXPECT_EQ(a.bytes(), Bytes(50));
  EXPECT_EQ(a.kind(), Kind::kGradient);
  a = Reservation();
  EXPECT_EQ(budget.use().used, Bytes(0));
}

TEST(BudgetTest, ThreadsNeverExceedTheLimit) {
  Budget budget(Tier::kHost, Bytes(5));
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 2000; ++i) {
          const auto mine = budget.reserve(Kind::kOther, Bytes(2));
          if (mine) std::this_thread::yield();
        }
      });
    }
  }
  EXPECT_LE(budget.use().peak, Bytes(4));
  EXPECT_EQ(budget.use().used, Bytes(0));
}

}  // namespace
}  // namespace strata::tiers
