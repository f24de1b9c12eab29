#include "tiers/slot_ledger.hpp"

#include <utility>

#include "base/check.hpp"

namespace strata::tiers {

SlotLedger::SlotLedger(std::uint32_t slots, GenerationTable durable, SlotReuse reuse)
    : slots_(slots), reuse_(reuse), durable_(std::move(durable)), working_(durable_.entries.size()) {}

std::optional<std::uint32_t> SlotLedger::free_slot(std::size_t object) const {
  if (slots_ == 1) return committing_ ? std::nullopt : std::optional<std::uint32_t>(0);
  const std::uint32_t durable = durable_.entries[object].slot;
  const std::uint32_t committing = committing_ ? committing_->entries[object].slot : kUnwritten;
  const bool durable_is_taken = !committing_ || reuse_ == SlotReuse::kAfterDurable;
  // Starting behind the newest wears all slots alike.
  const std::uint32_t newest = committing_ ? committing : durable;
  const std::uint32_t start = newest == kUnwritten ? 0 : newest + 1;
  for (std::uint32_t i = 0; i < slots_; ++i) {
    const std::uint32_t slot = (start + i) % slots_;
    if (slot != committing && !(durable_is_taken && slot == durable)) return slot;
  }
  return std::nullopt;
}

std::optional<std::uint32_t> SlotLedger::begin(StoreId id) {
  STRATA_CHECK(id.value < working_.size(), "no such object");
  Working& working = working_[id.value];
  switch (working.write) {
    case Write::kNone: {
      const auto slot = free_slot(id.value);
      if (slot) working = {*slot, Write::kOpen};
      return slot;
    }
    case Write::kEnded: working.write = Write::kRewriting; break;
    case Write::kOpen:
    case Write::kRewriting: break;
  }
  return working.slot;
}

void SlotLedger::end(StoreId id) {
  STRATA_CHECK(id.value < working_.size(), "no such object");
  Working& working = working_[id.value];
  STRATA_CHECK(working.write == Write::kOpen || working.write == Write::kRewriting, "end_write without begin_write");
  working.write = Write::kEnded;
}

std::optional<std::uint32_t> SlotLedger::newest(StoreId id) const {
  STRATA_CHECK(id.value < working_.size(), "no such object");
  const Working& working = working_[id.value];
  if (working.write == Write::kEnded) return working.slot;
  const std::uint32_t slot = (committing_ ? *committing_ : durable_).entries[id.value].slot;
  return slot == kUnwritten ? std::nullopt : std::optional(slot);
}

std::optional<StoreId> SlotLedger::blocks_commit() const {
  for (std::uint32_t i = 0; i < working_.size(); ++i) {
    const Write write = working_[i].write;
    if (write == Write::kRewriting || (write == Write::kOpen && slots_ == 1)) return StoreId(i);
  }
  return std::nullopt;
}

const GenerationTable& SlotLedger::start_commit() {
  STRATA_CHECK(!committing_ && !blocks_commit(), "one commit at a time, of whole versions");
  committing_ = durable_;
  ++committing_->generation;
  for (std::size_t i = 0; i < working_.size(); ++i) {
    if (working_[i].write != Write::kEnded) continue;
    committing_->entries[i] = {working_[i].slot, committing_->generation};
    working_[i] = {};
  }
  return *committing_;
}

void SlotLedger::finish_commit() {
  STRATA_CHECK(committing_.has_value(), "no commit in flight");
  durable_ = *std::move(committing_);
  committing_.reset();
}

void SlotLedger::roll_back() {
  STRATA_CHECK(slots_ > 1, "in place there is no version to go back to");
  working_.assign(working_.size(), {});
}

}  // namespace strata::tiers
