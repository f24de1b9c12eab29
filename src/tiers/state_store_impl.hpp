// Inside of the state store: slots and scratch under one mutex, and the thread that commits.
//
// Threads. Public calls come from any thread and hold the mutex only to keep books. The commit log does its I/O without
// the mutex; `activity_` says who uses it: the commit thread, or the caller that writes the DIRTY mark.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/result.hpp"
#include "io/engine.hpp"
#include "tiers/commit_log.hpp"
#include "tiers/slot_ledger.hpp"
#include "tiers/state_store.hpp"
#include "tiers/store_layout.hpp"

namespace strata::tiers {

/// What tests may change in how a store works.
struct StoreHooks {
  StoreProtocol protocol;
  SlotReuse reuse = SlotReuse::kAfterDurable;
};

/// StateStore::create and open, with hooks.
struct StoreFactory {
  [[nodiscard]] static Result<std::unique_ptr<StateStore>> create(const StoreOptions& options,
                                                                  std::span<const StoreObject> objects,
                                                                  io::Engine& engine, const StoreHooks& hooks);
  [[nodiscard]] static Result<std::unique_ptr<StateStore>> open(const StoreOptions& options,
                                                                std::span<const StoreObject> objects,
                                                                io::Engine& engine, const StoreHooks& hooks);
};

/// What opening a store gives.
struct StoreParts {
  StoreOptions options;
  std::vector<StoreObject> objects;
  std::unique_ptr<const StoreLayout> layout;
  std::vector<io::FileId> files;
  std::unique_ptr<CommitLog> log;
  Recovered found;
  SlotReuse reuse = SlotReuse::kAfterDurable;
};

struct StateStore::Impl {
  explicit Impl(StoreParts parts);
  ~Impl();

  [[nodiscard]] Result<DiskExtent> begin_write(StoreId id);
  [[nodiscard]] Status commit(std::uint64_t step, std::string metadata);
  [[nodiscard]] Status wait_durable();
  [[nodiscard]] Status roll_back();
  [[nodiscard]] Result<DiskExtent> allocate_scratch(Bytes bytes);
  [[nodiscard]] DiskExtent extent(StoreId id, std::uint32_t slot) const;
  [[nodiscard]] bool in_place() const { return options_.slots == 1; }

  struct Commit {
    CommitRecord record;
    GenerationTable table;
  };
  enum class Activity : std::uint8_t { kNone, kCommitting, kMarking };
  enum class Mark : std::uint8_t { kClean, kDirty };

  void run();
  void finish(Commit commit, Status status);
  [[nodiscard]] Status mark_dirty(std::unique_lock<std::mutex>& lock);
  /// Sticky: what the disk holds is unknown from now on.
  void stop(std::string what, const Error& cause);

  // Fixed after start.
  const StoreOptions options_;
  const std::vector<StoreObject> objects_;
  const std::unique_ptr<const StoreLayout> layout_;
  const std::vector<io::FileId> files_;

  // The thread that activity_ names.
  const std::unique_ptr<CommitLog> log_;

  // Under mutex_.
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  SlotLedger ledger_;
  CommitRecord durable_;
  Activity activity_ = Activity::kNone;
  Mark mark_;
  std::optional<Commit> next_;  ///< for the commit thread
  std::optional<Error> failure_;
  std::vector<Bytes> scratch_used_;
  enum class Closing : std::uint8_t { kNo, kYes } closing_ = Closing::kNo;

  std::thread thread_;
};

}  // namespace strata::tiers
