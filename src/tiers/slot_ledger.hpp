// Which slot of each object holds what. Pure bookkeeping: no lock, no I/O.
//
// Invariant, with two or more slots: a slot that the durable generation or the generation in commit references is never
// given out for writing. So whatever a crash leaves of the writes since, the bytes of both are whole. With two slots an
// object that was written in this step and in the one before therefore waits for the commit in flight; once that is
// durable, the older slot is free. After a failed commit the disk may hold either generation, so the commit counts as
// in flight for good. With one slot updates are in place and only the commit in flight is protected.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "tiers/generation_table.hpp"
#include "tiers/state_store.hpp"

namespace strata::tiers {

/// kBeforeDurable breaks the invariant on purpose: tests prove that they would notice.
enum class SlotReuse : std::uint8_t { kAfterDurable, kBeforeDurable };

class SlotLedger {
 public:
  SlotLedger(std::uint32_t slots, GenerationTable durable, SlotReuse reuse);

  /// The slot for the object's next version; nullopt while the commit in flight needs every other one.
  [[nodiscard]] std::optional<std::uint32_t> begin(StoreId id);
  void end(StoreId id);
  /// The working version that has ended, else the one in commit, else the durable one.
  [[nodiscard]] std::optional<std::uint32_t> newest(StoreId id) const;

  /// An object whose open write stands against a commit now: it overwrites a version that has ended, or writes in
  /// place.
  [[nodiscard]] std::optional<StoreId> blocks_commit() const;
  /// Moves the versions that have ended into the generation in commit and returns its table.
  [[nodiscard]] const GenerationTable& start_commit();
  void finish_commit();
  /// Forgets working versions, open and ended. Not with one slot.
  void roll_back();

  [[nodiscard]] const GenerationTable& durable() const { return durable_; }

 private:
  enum class Write : std::uint8_t { kNone, kOpen, kEnded, kRewriting };
  struct Working {
    std::uint32_t slot = kUnwritten;
    Write write = Write::kNone;
  };

  [[nodiscard]] std::optional<std::uint32_t> free_slot(std::size_t object) const;

  const std::uint32_t slots_;
  const SlotReuse reuse_;
  GenerationTable durable_;
  std::optional<GenerationTable> committing_;
  std::vector<Working> working_;
};

}  // namespace strata::tiers
