// The writes that make a generation durable, in an order that a crash can't turn against us; and their reading back.
//
// Commit: table and metadata into the generation area that the last root does not use; flush every path, in parallel,
// so that they and all object bytes are durable; the other root; flush it. A crash before the second flush leaves the
// last root and all that it names untouched. The table needs no flush of its own: nothing refers to it before the root.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "io/engine.hpp"
#include "tiers/generation_table.hpp"
#include "tiers/root_record.hpp"
#include "tiers/store_bytes.hpp"
#include "tiers/store_layout.hpp"

namespace strata::tiers {

enum class CommitStep : std::uint8_t { kWriteTable, kFlushPaths, kWriteRoot, kFlushRoot };

/// What keeps the store whole. Tests pass mutilated ones and expect to lose data.
struct StoreProtocol {
  std::vector<CommitStep> commit = {CommitStep::kWriteTable, CommitStep::kFlushPaths, CommitStep::kWriteRoot,
                                    CommitStep::kFlushRoot};
  enum class DirtyMark : std::uint8_t { kFlushed, kUnflushed } dirty_mark = DirtyMark::kFlushed;
};

/// The newest generation that verified.
struct Recovered {
  RootRecord root;
  GenerationTable table;
  std::string metadata;
};

/// Used by one thread at a time.
class CommitLog {
 public:
  struct Setting {
    io::Engine* engine = nullptr;
    const StoreLayout* layout = nullptr;
    std::vector<io::FileId> files;  ///< by path
    std::string run_id;
    TableLimits limits;
    StoreProtocol protocol;
  };
  explicit CommitLog(Setting setting);

  /// Root of generation 0 in a new store. Not flushed.
  [[nodiscard]] Status start();
  /// Of both roots the newest whose table and metadata verify. kStore, with both reasons, when neither does.
  [[nodiscard]] Result<Recovered> recover();
  [[nodiscard]] Status commit(GenerationTable table, std::uint64_t step, const std::string& metadata);
  /// Makes it durable that the bytes of the last generation are about to be overwritten.
  [[nodiscard]] Status mark_dirty();
  [[nodiscard]] Status flush_paths();

 private:
  [[nodiscard]] Status take_step(CommitStep step);
  [[nodiscard]] Status write_root(std::uint32_t place, const RootRecord& root);
  [[nodiscard]] Status flush_root();
  [[nodiscard]] Result<Recovered> read_generation(const RootRecord& root);
  [[nodiscard]] Result<std::vector<std::byte>> read_blob(const BlobRef& blob, const char* what);
  /// Table and metadata of the next commit into `buffer_`; `next_` names them.
  void encode_generation(GenerationTable table, std::uint64_t step, const std::string& metadata);
  [[nodiscard]] std::uint32_t other_place() const { return 1 - place_; }

  const Setting setting_;
  RootRecord last_;             ///< the root that names what is durable
  std::uint32_t place_ = 0;     ///< where it lies
  std::uint64_t sequence_ = 0;  ///< the greatest on the disk
  RootRecord next_;
  AlignedBuffer buffer_;
  Bytes used_;  ///< of buffer_, by the commit at work
  AlignedBuffer root_buffer_;
};

}  // namespace strata::tiers
