// What training keeps on disk: slots, generations, commit.
//
// Per path one preallocated data file. Each object has S slots at fixed places; a write goes to a slot that neither the
// last durable generation nor the one being committed points to, and a commit makes a whole step visible at once. With
// S = 1 (`strata.durable_steps: false`) objects are updated in place: a durable DIRTY mark precedes the first write of
// a step and CLEAN follows it; a dirty store can't be resumed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "io/engine.hpp"
#include "strata/types.hpp"

namespace strata::tiers {

using StoreId = Id<struct StoreTag>;
using Generation = std::uint64_t;  ///< 0: nothing committed yet

/// A place on one path. `bytes` is a multiple of 4 KiB.
struct DiskExtent {
  PathId path;
  io::FileId file;
  Offset offset;
  Bytes bytes;
};

struct StoreObject {
  std::string name;  ///< unique, stable between runs of the same model: "block.3/parameter/bf16"
  Bytes bytes;       ///< rounded up to 4 KiB on disk
};

struct StoreOptions {
  std::string run_id;                        ///< 32 hex digits; data files carry it, so that runs never mix
  std::vector<std::filesystem::path> paths;  ///< existing folders; the data file is PATH/strata-<run_id>/rank0.data
  std::uint32_t slots = 2;                   ///< S; 1: updates in place
  Bytes scratch;                             ///< spread over the paths; in place, not durable; may differ at open()
  /// The largest piece that allocate_scratch() will be asked for. With several paths each gets that much more than its
  /// share, and then pieces that together take `scratch` always fit.
  Bytes largest_scratch;
  double lock_patience_s = 5;
};

/// Over how many paths scratch is spread, and its largest piece.
struct ScratchSpread {
  std::size_t paths = 1;
  Bytes largest;
};

struct CommitRecord {
  Generation generation = 0;
  std::uint64_t step = 0;
  std::string metadata;  ///< the engine's canonical JSON: scheduler, loss scale, RNG, data position, applied steps
};

class StateStore {
 public:
  /// Makes the data files (they must not exist), preallocated with everything that will ever be written: slots, tables,
  /// roots, scratch. Nothing is left behind on failure. `engine` must outlive the store, and keeps the files open and
  /// locked until it goes. Names of objects are unique.
  [[nodiscard]] static Result<std::unique_ptr<StateStore>> create(const StoreOptions& options,
                                                                  std::span<const StoreObject> objects,
                                                                  io::Engine& engine);
  /// Opens the data files of a run and recovers the newest generation whose root and table verify. kStore when the
  /// objects differ (names the first difference), when a path is missing, cut short, of another run or of another
  /// format version, when another process holds the lock, when neither root verifies, or when an in-place store is
  /// DIRTY (unless nothing was committed to it yet: then it is empty). Scratch is empty again.
  [[nodiscard]] static Result<std::unique_ptr<StateStore>> open(const StoreOptions& options,
                                                                std::span<const StoreObject> objects,
                                                                io::Engine& engine);
  ~StateStore();
  StateStore(const StateStore&) = delete;
  StateStore& operator=(const StateStore&) = delete;

  /// Disk bytes that create() takes on all paths together, exactly. Depends on sizes only, not on names.
  [[nodiscard]] static Bytes footprint(std::span<const StoreObject> objects, std::uint32_t slots, Bytes scratch,
                                       const ScratchSpread& spread = {});

  // --- any thread ---

  /// The newest version of the object: the working one, else the committed one; nullopt when never written.
  [[nodiscard]] std::optional<DiskExtent> newest(StoreId id) const;

  /// A slot for the object's next version. Once per object and step before its first byte is written; a second call
  /// before the next commit returns the same slot. Blocks only while a commit in flight still needs the slot.
  /// In-place stores write the DIRTY mark here, once per step. After a failed commit this fails too.
  [[nodiscard]] Result<DiskExtent> begin_write(StoreId id);
  /// All bytes of the version have completed; from now on newest() is this version.
  void end_write(StoreId id);

  /// Starts making every version that has ended so far durable as one generation; returns at once. At most one commit
  /// is in flight: a second call waits for the first. Order: write table and metadata; flush every path, in parallel;
  /// write the root; flush it. After a failed flush or write nothing is ever committed again. kInternal, with nothing
  /// done, while a version that has ended is being overwritten, or any open write is in place; kUsage over 1 MiB of
  /// metadata.
  [[nodiscard]] Status commit(std::uint64_t step, std::string metadata);
  /// Waits for the commit in flight, if any, and returns its error.
  [[nodiscard]] Status wait_durable();
  [[nodiscard]] CommitRecord durable() const;
  /// Drops every working version since the last commit; newest() is the committed one again. Refused with S = 1. The
  /// caller has waited for its writes: an open one ends here, without end_write().
  [[nodiscard]] Status roll_back();

  /// A part of the scratch area, on the path with the most room; kDoesNotFit when none has enough. Freed only by
  /// destroying the store.
  [[nodiscard]] Result<DiskExtent> allocate_scratch(Bytes bytes);

  [[nodiscard]] std::span<const StoreObject> objects() const;

 private:
  friend struct StoreFactory;
  struct Impl;
  explicit StateStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Removes the data files of a run from its paths (used when a new run could not start, and by `strata gc`). Missing
/// ones are no error; kStore while a process, this one's engine included, holds one.
[[nodiscard]] Status remove_store(const StoreOptions& options);

}  // namespace strata::tiers
