// Opens a run to read its committed state, in little memory. No torch.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "device/device.hpp"
#include "engine/run_folder.hpp"
#include "io/engine.hpp"
#include "tiers/state_store.hpp"
#include "tiers/tier_manager.hpp"
#include "zero/segment_table.hpp"
#include "zero/state_objects.hpp"

namespace strata::engine {

/// Holds the run while it lives: others may read, nobody may train.
class RunReader {
 public:
  /// kStore when there is no run, nothing was committed, or another process has it open.
  [[nodiscard]] static Result<std::unique_ptr<RunReader>> open(const std::filesystem::path& folder);

  [[nodiscard]] const RunRecord& record() const { return record_; }
  [[nodiscard]] std::span<const zero::UnitLayout> layouts() const { return layouts_; }
  [[nodiscard]] const zero::StateObjects& objects() const { return objects_; }
  [[nodiscard]] tiers::TierManager& tiers() { return *tiers_; }
  [[nodiscard]] tiers::CommitRecord committed() const { return store_->durable(); }
  [[nodiscard]] std::uint64_t applied_steps() const { return applied_steps_; }

 private:
  RunReader() = default;

  Fd run_lock_;
  RunRecord record_;
  std::vector<zero::UnitLayout> layouts_;
  zero::StateObjects objects_;
  std::unique_ptr<io::Engine> io_;
  std::unique_ptr<device::Device> device_;
  std::unique_ptr<tiers::StateStore> store_;
  std::unique_ptr<tiers::TierManager> tiers_;
  std::uint64_t applied_steps_ = 0;
};

}  // namespace strata::engine
