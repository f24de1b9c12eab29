// The seam to the disk: one engine per rank drives all files of all paths.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "io/file.hpp"
#include "io/request.hpp"

namespace strata::io {

enum class EngineKind : std::uint8_t { kAuto, kUring, kThreads };

struct EngineStats {
  std::uint64_t read_bytes = 0;
  std::uint64_t write_bytes = 0;
  std::uint64_t requests = 0;  ///< completed, failed ones included
  std::uint64_t short_transfers = 0;
  std::uint64_t retries = 0;
  std::uint64_t errors = 0;
};

/// Contract of every backend (tests/conformance/io_engine_suite):
/// - submit() may be called by any thread; it blocks while the bounded inbox is full, and never does I/O itself;
/// - every request completes exactly once, with `error` set or with all its bytes transferred: a completion of 0 bytes
///   is an error, a short one resumes from the last aligned byte, EINTR/EAGAIN are retried at most 100 times;
/// - requests may complete in any order; a flush covers the writes that had completed before it was submitted;
/// - the destructor waits for what is in flight.
class Engine {
 public:
  virtual ~Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Takes over an open file. Any thread; the id is valid for the life of the engine.
  [[nodiscard]] virtual Result<FileId> attach(File file) = 0;
  virtual void submit(Request& request) = 0;
  [[nodiscard]] virtual EngineStats stats() const = 0;
  /// "io_uring (single issuer, deferred task run)", "threads (8)": what runs and with which features.
  [[nodiscard]] virtual std::string description() const = 0;

 protected:
  Engine() = default;
};

/// Blocks the calling thread until `request` is done; returns its error.
[[nodiscard]] Status wait(Request& request);

/// submit and wait.
[[nodiscard]] Status transfer(Engine& engine, Op op, FileId file, Offset offset, std::byte* data, Bytes length);

struct EngineOptions {
  EngineKind kind = EngineKind::kAuto;  ///< `strata.io_engine`
  std::uint32_t queue_depth = 32;       ///< blocks in flight, per file
  Bytes block_size{1u << 20};           ///< `aio.block_size`; a multiple of 4 KiB
  std::uint32_t threads = 8;            ///< of the threads backend
  std::uint32_t inbox_capacity = 4096;
  double slow_after_s = 30;                           ///< `strata.io_slow_s`
  std::function<void(std::string_view)> report = {};  ///< one line about a slow request or a fallback; may be empty
};

/// kAuto opens io_uring and falls back to threads where the kernel refuses it, and says so through `report`.
[[nodiscard]] Result<std::unique_ptr<Engine>> open_engine(const EngineOptions& options);

}  // namespace strata::io
