// The one state machine of an object's bytes in one tier.
//
// A home in memory starts kUndefined and always has its extent; a home on disk starts kUndefined or, when the store
// already holds a version, kClean; everything else starts kAbsent and has an extent in every other state.
//
//   copies   kAbsent -fetch-> kFetching -> kClean -drop-> kAbsent
//            kAbsent|kClean -write-> kWriting -write back-> kWritingBack -> kClean
//                                    kWriting -abandon-> kAbsent
//   homes    kUndefined|kClean -write-> kWriting -> kClean          (abandon: kUndefined)
//            kClean -snapshot-> kWritingBack -> kClean
//            kClean -a copy is written-> kStale -receive-> kFetching -> kClean      (failure: kUndefined)
//            kUndefined -receive-> kFetching                        (first write-back, restore)
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace strata::tiers {

enum class ResidencyState : std::uint8_t {
  kAbsent,      ///< no bytes and no extent here
  kUndefined,   ///< home: the place is there, its content is not
  kFetching,    ///< bytes are on the way in
  kClean,       ///< the object's value; a copy may be dropped
  kStale,       ///< home: a copy is being changed, these bytes are the version before
  kWriting,     ///< leased for writing
  kWritingBack  ///< the object's value, on its way out (home, or to the store); readable
};
inline constexpr std::size_t kResidencyStateCount = 7;

enum class ResidencyEdge : std::uint8_t {
  kBeginFetch,
  kBeginReceive,
  kEndFetch,
  kFailFetch,
  kFailReceive,
  kDrop,
  kBeginWrite,
  kEndWriteAtHome,
  kAbandonCopy,
  kAbandonHome,
  kOvertake,
  kRegain,
  kBeginWriteBack,
  kBeginSnapshot,
  kEndWriteBack,
  kForget,
  kAppear
};
inline constexpr std::size_t kResidencyEdgeCount = 17;

[[nodiscard]] std::string_view name_of(ResidencyState state);
[[nodiscard]] std::string_view name_of(ResidencyEdge edge);

/// The state after `edge`; nullopt when the edge may not be taken from `state`.
[[nodiscard]] std::optional<ResidencyState> after(ResidencyState state, ResidencyEdge edge);

/// Each function takes one edge and aborts when the state does not allow it.
class Residency {
 public:
  Residency() = default;
  explicit Residency(ResidencyState initial) : state_(initial) {}

  [[nodiscard]] ResidencyState state() const noexcept { return state_; }
  [[nodiscard]] bool is(ResidencyState state) const noexcept { return state_ == state; }
  /// The object's value is here and stays unchanged while it is leased.
  [[nodiscard]] bool readable() const noexcept {
    return state_ == ResidencyState::kClean || state_ == ResidencyState::kWritingBack;
  }
  [[nodiscard]] bool in_flight() const noexcept {
    return state_ == ResidencyState::kFetching || state_ == ResidencyState::kWritingBack;
  }

  void begin_fetch() { take(ResidencyEdge::kBeginFetch); }      ///< copy: bytes are asked for
  void begin_receive() { take(ResidencyEdge::kBeginReceive); }  ///< home: a write-back or restore is on the way
  void end_fetch() { take(ResidencyEdge::kEndFetch); }          ///< all bytes are here
  void fail_fetch() { take(ResidencyEdge::kFailFetch); }        ///< copy: nothing usable arrived
  void fail_receive() { take(ResidencyEdge::kFailReceive); }    ///< home: half of a version may have arrived
  void drop() { take(ResidencyEdge::kDrop); }                   ///< copy: its extent is given up
  void begin_write() { take(ResidencyEdge::kBeginWrite); }      ///< a WriteLease starts
  void end_write_at_home() { take(ResidencyEdge::kEndWriteAtHome); }
  void abandon_copy() { take(ResidencyEdge::kAbandonCopy); }
  void abandon_home() { take(ResidencyEdge::kAbandonHome); }
  void overtake() { take(ResidencyEdge::kOvertake); }                ///< home: a copy is about to change
  void regain() { take(ResidencyEdge::kRegain); }                    ///< home: the change was abandoned
  void begin_write_back() { take(ResidencyEdge::kBeginWriteBack); }  ///< copy: the change goes home
  void begin_snapshot() { take(ResidencyEdge::kBeginSnapshot); }     ///< home: the value goes to the store
  void end_write_back() { take(ResidencyEdge::kEndWriteBack); }  ///< nobody reads these bytes to write them elsewhere
  void forget() { take(ResidencyEdge::kForget); }                ///< home: the content is discarded
  void appear() { take(ResidencyEdge::kAppear); }                ///< disk home: the store has a version

 private:
  void take(ResidencyEdge edge);

  ResidencyState state_ = ResidencyState::kAbsent;
};

}  // namespace strata::tiers
