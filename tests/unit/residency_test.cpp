#include "tiers/residency.hpp"

#include <map>
#include <utility>

#include <gtest/gtest.h>

namespace strata::tiers {
namespace {

using State = ResidencyState;
using Edge = ResidencyEdge;

// Every pair that is legal, written out; all others must be refused.
const std::map<std::pair<State, Edge>, State>& legal() {
  static const std::map<std::pair<State, Edge>, State> table{
      {{State::kAbsent, Edge::kBeginFetch}, State::kFetching},
      {{State::kAbsent, Edge::kBeginWrite}, State::kWriting},
      {{State::kUndefined, Edge::kBeginReceive}, State::kFetching},
      {{State::kUndefined, Edge::kBeginWrite}, State::kWriting},
      {{State::kUndefined, Edge::kForget}, State::kUndefined},
      {{State::kUndefined, Edge::kAppear}, State::kClean},
      {{State::kFetching, Edge::kEndFetch}, State::kClean},
      {{State::kFetching, Edge::kFailFetch}, State::kAbsent},
      {{State::kFetching, Edge::kFailReceive}, State::kUndefined},
      {{State::kClean, Edge::kBeginReceive}, State::kFetching},
      {{State::kClean, Edge::kDrop}, State::kAbsent},
      {{State::kClean, Edge::kBeginWrite}, State::kWriting},
      {{State::kClean, Edge::kOvertake}, State::kStale},
      {{State::kClean, Edge::kBeginSnapshot}, State::kWritingBack},
      {{State::kClean, Edge::kForget}, State::kUndefined},
      {{State::kStale, Edge::kBeginReceive}, State::kFetching},
      {{State::kStale, Edge::kRegain}, State::kClean},
      {{State::kWriting, Edge::kEndWriteAtHome}, State::kClean},
      {{State::kWriting, Edge::kAbandonCopy}, State::kAbsent},
      {{State::kWriting, Edge::kAbandonHome}, State::kUndefined},
      {{State::kWriting, Edge::kBeginWriteBack}, State::kWritingBack},
      {{State::kWritingBack, Edge::kEndWriteBack}, State::kClean},
  };
  return table;
}

TEST(ResidencyTest, TableAllowsExactlyTheLegalEdges) {
  for (std::size_t s = 0; s < kResidencyStateCount; ++s) {
    for (std::size_t e = 0; e < kResidencyEdgeCount; ++e) {
      const auto state = static_cast<State>(s);
      const auto edge = static_cast<Edge>(e);
      const auto expected = legal().find({state, edge});
      const auto actual = after(state, edge);
      ASSERT_EQ(actual.has_value(), expected != legal().end()) << name_of(edge) << " from " << name_of(state);
      if (actual) {
        EXPECT_EQ(*actual, expected->second) << name_of(edge) << " from " << name_of(state);
      }
    }
  }
}

TEST(ResidencyTest, OnlyTheValueIsReadable) {
  for (std::size_t s = 0; s < kResidencyStateCount; ++s) {
    const auto state = static_cast<State>(s);
    EXPECT_EQ(Residency(state).readable(), state == State::kClean || state == State::kWritingBack) << name_of(state);
  }
}

TEST(ResidencyTest, EachFunctionTakesItsEdge) {
  Residency copy;
  copy.begin_fetch();
  copy.end_fetch();
  copy.begin_write();
  copy.begin_write_back();
  copy.end_write_back();
  copy.drop();
  copy.begin_fetch();
  copy.fail_fetch();
  copy.begin_write();
  copy.abandon_copy();
  EXPECT_EQ(copy.state(), State::kAbsent);

  Residency home(State::kUndefined);
  home.appear();
  home.overtake();
  home.regain();
  home.overtake();
  home.begin_receive();
  home.end_fetch();
  home.begin_snapshot();
  home.end_write_back();
  home.begin_write();
  home.end_write_at_home();
  home.forget();
  home.begin_receive();
  home.fail_receive();
  home.begin_write();
  home.abandon_home();
  EXPECT_EQ(home.state(), State::kUndefined);
}

TEST(ResidencyDeathTest, IllegalEdgesAbortAndNameThemselves) {
  EXPECT_DEATH(Residency().drop(), "drop from state absent");
  EXPECT_DEATH(Residency(State::kFetching).begin_write(), "begin_write from state fetching");
  EXPECT_DEATH(Residency(State::kStale).end_fetch(), "end_fetch from state stale");
  EXPECT_DEATH(Residency(State::kWritingBack).begin_write(), "begin_write from state writing back");
}

}  // namespace
}  // namespace strata::tiers
