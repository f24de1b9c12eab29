// A simulated disk and an I/O engine on it, for tests of whatever stores bytes: every fault that a disk can have, on
// purpose, in memory, and the same again for the same seed.
//
//   SimDisk disk(test_seed());
//   auto engine = open_sim_engine(disk, {});                 // keeps the contract of io::Engine
//   auto file = (*engine)->attach(disk.create("a", 1_MiB));  // or attach a real file: its bytes are taken over
//   disk.set_faults({.short_transfer = 0.3, .read_error = 0.01});   // rates
//   disk.fail_nth(io::Op::kWrite, 5, ENOSPC);                // or one fault exactly
//   disk.crash_at_write(7);                                  // power is lost in the middle of that write
//   ...                                                      // from then on every request fails with EIO
//   engine->reset(); disk.restart();                         // what survived is there; open an engine again
//
// What survives a power loss: all that a flush covered, and of later writes any subset of their 512-byte sectors,
// chosen by the seed. A flush covers the writes that had completed when it was submitted, and nothing else. Blocks of
// concurrent requests are carried out in an order that the seed chooses. With one thread that submits and waits, a
// whole run repeats exactly; with more, the order of submission is up to the threads.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "io/block_scheduler.hpp"
#include "io/engine.hpp"

namespace strata::testing {

/// Probabilities per block handed to the disk.
struct SimFaults {
  double short_transfer = 0;  ///< a random part is transferred
  double interrupted = 0;     ///< EINTR or EAGAIN, nothing transferred
  double read_error = 0;      ///< EIO
  double write_error = 0;     ///< EIO, a random part is written all the same
  double flush_error = 0;     ///< EIO, nothing becomes durable
  double lost_flush = 0;      ///< success is reported, nothing becomes durable
  double read_bit_flip = 0;   ///< one bit of what a read returns is wrong; the disk keeps the right one
  double torn_write = 0;      ///< success is reported, some sectors keep their old bytes
  std::uint32_t latency_max_us = 0;
};

/// Any thread.
class SimDisk {
 public:
  explicit SimDisk(std::uint64_t seed) : random_(seed) {}

  /// A durable file of zeros, to be attached to an engine.
  [[nodiscard]] io::File create(const std::string& path, Bytes size);
  /// The handle of a file that is there.
  [[nodiscard]] io::File open(const std::string& path) const;
  void remove(const std::string& path);

  void set_faults(const SimFaults& faults);
  /// The n-th block of this kind from now on (1: the next) fails with `os_errno`; nothing is transferred.
  void fail_nth(io::Op op, std::uint64_t nth, int os_errno);
  /// Flips a bit of what is stored.
  void flip_bit(const std::string& path, Offset offset, unsigned bit);
  /// Blocks stay with the disk until release(); crash() releases, too.
  void hold();
  void release();

  /// Power is lost now.
  void crash();
  /// Power is lost during the n-th write from now on (1: the next one); any part of it may survive.
  void crash_at_write(std::uint64_t nth);
  [[nodiscard]] bool crashed() const;
  /// Power is back; files hold what survived. No engine may be open.
  void restart();

  /// What a reader sees, without faults.
  [[nodiscard]] std::vector<std::byte> contents(const std::string& path) const;
  /// Blocks that were carried out, failed ones included.
  [[nodiscard]] std::uint64_t blocks(io::Op op) const;

 private:
  friend class SimEngine;

  struct UnflushedWrite {
    std::uint64_t order;
    std::uint64_t offset;
    std::vector<std::byte> bytes;
  };
  struct SimFile {
    std::vector<std::byte> visible;
    std::vector<std::byte> durable;
    std::vector<UnflushedWrite> unflushed;
  };
  struct PlannedFailure {
    std::uint64_t nth;
    int os_errno;
  };

  // For the engine.
  void adopt(const io::File& file);
  [[nodiscard]] std::uint64_t completed_writes() const;
  [[nodiscard]] std::int64_t perform(const io::Block& block, const std::string& path, std::uint64_t flush_covers);
  [[nodiscard]] std::uint64_t pick_below(std::uint64_t count);
  void pass_time();

  [[nodiscard]] std::int64_t read(SimFile& file, const io::Block& block, std::uint64_t length);
  [[nodiscard]] std::int64_t write(SimFile& file, const io::Block& block, std::uint64_t length);
  [[nodiscard]] std::int64_t flush(SimFile& file, std::uint64_t covers);
  void store(SimFile& file, std::uint64_t offset, const std::byte* data, std::uint64_t length);
  void lose_power();
  [[nodiscard]] bool chance(double probability);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::mt19937_64 random_;
  SimFaults faults_;
  std::map<std::string, SimFile> files_;
  std::array<std::vector<PlannedFailure>, 3> planned_;
  std::array<std::uint64_t, 3> blocks_{};
  std::uint64_t completed_writes_ = 0;
  std::uint64_t crash_at_ = 0;  // among blocks_[kWrite]; 0: never
  bool crashed_ = false;
  bool held_ = false;
};

/// An engine on `disk`, which must outlive it. `kind`, `threads` and the slow report of the options have no effect.
[[nodiscard]] Result<std::unique_ptr<io::Engine>> open_sim_engine(SimDisk& disk, const io::EngineOptions& options);

}  // namespace strata::testing
