#include "tiers/residency.hpp"

#include <array>
#include <initializer_list>

#include <fmt/format.h>

#include "base/check.hpp"

namespace strata::tiers {
namespace {

using State = ResidencyState;
using Edge = ResidencyEdge;

struct EdgeRule {
  Edge edge;
  std::uint8_t from;  // one bit per state
  State to;
  std::string_view name;
};

constexpr std::uint8_t any_of(std::initializer_list<State> states) {
  unsigned mask = 0;
  for (const State state : states) mask |= 1u << static_cast<unsigned>(state);
  return static_cast<std::uint8_t>(mask);
}

constexpr std::array<EdgeRule, kResidencyEdgeCount> kRules{{
    {Edge::kBeginFetch, any_of({State::kAbsent}), State::kFetching, "begin_fetch"},
    {Edge::kBeginReceive, any_of({State::kUndefined, State::kClean, State::kStale}), State::kFetching, "begin_receive"},
    {Edge::kEndFetch, any_of({State::kFetching}), State::kClean, "end_fetch"},
    {Edge::kFailFetch, any_of({State::kFetching}), State::kAbsent, "fail_fetch"},
    {Edge::kFailReceive, any_of({State::kFetching}), State::kUndefined, "fail_receive"},
    {Edge::kDrop, any_of({State::kClean}), State::kAbsent, "drop"},
    {Edge::kBeginWrite, any_of({State::kAbsent, State::kUndefined, State::kClean}), State::kWriting, "begin_write"},
    {Edge::kEndWriteAtHome, any_of({State::kWriting}), State::kClean, "end_write_at_home"},
    {Edge::kAbandonCopy, any_of({State::kWriting}), State::kAbsent, "abandon_copy"},
    {Edge::kAbandonHome, any_of({State::kWriting}), State::kUndefined, "abandon_home"},
    {Edge::kOvertake, any_of({State::kClean}), State::kStale, "overtake"},
    {Edge::kRegain, any_of({State::kStale}), State::kClean, "regain"},
    {Edge::kBeginWriteBack, any_of({State::kWriting}), State::kWritingBack, "begin_write_back"},
    {Edge::kBeginSnapshot, any_of({State::kClean}), State::kWritingBack, "begin_snapshot"},
    {Edge::kEndWriteBack, any_of({State::kWritingBack}), State::kClean, "end_write_back"},
    {Edge::kForget, any_of({State::kUndefined, State::kClean}), State::kUndefined, "forget"},
    {Edge::kAppear, any_of({State::kUndefined}), State::kClean, "appear"},
}};

constexpr bool rules_stand_in_order() {
  for (std::size_t i = 0; i < kRules.size(); ++i) {
    if (static_cast<std::size_t>(kRules[i].edge) != i) return false;
  }
  return true;
}
static_assert(rules_stand_in_order());

const EdgeRule& rule_of(Edge edge) {
  return kRules[static_cast<std::size_t>(edge)];
}

}  // namespace

std::string_view name_of(ResidencyState state) {
  constexpr std::string_view names[] = {"absent", "undefined", "fetching", "clean", "stale", "writing", "writing back"};
  return names[static_cast<std::size_t>(state)];
}

std::string_view name_of(ResidencyEdge edge) {
  return rule_of(edge).name;
}

std::optional<ResidencyState> after(ResidencyState state, ResidencyEdge edge) {
  const EdgeRule& rule = rule_of(edge);
  if ((rule.from >> static_cast<unsigned>(state) & 1u) == 0) return std::nullopt;
  return rule.to;
}

void Residency::take(ResidencyEdge edge) {
  const auto to = after(state_, edge);
  STRATA_CHECK(to.has_value(), fmt::format("residency: {} from state {}", name_of(edge), name_of(state_)));
  state_ = *to;
}

}  // namespace strata::tiers
