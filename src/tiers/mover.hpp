// One transfer of bytes between two tiers, as a small state machine over the I/O engine and the device's lanes.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>

#include "base/result.hpp"
#include "device/device.hpp"
#include "io/engine.hpp"
#include "strata/types.hpp"
#include "tiers/lane.hpp"
#include "tiers/state_store.hpp"

namespace strata::tiers {

class Mover;

/// Caller-owned and pinned in memory from start() until on_complete, in which it may be reused or destroyed.
struct Transfer {
  Transfer() = default;
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // Set by the caller before start.
  Tier from = Tier::kDisk;
  Tier to = Tier::kHost;
  DiskExtent disk;                   ///< the end on disk, if there is one
  std::byte* source = nullptr;       ///< the end in memory that is read
  std::byte* destination = nullptr;  ///< the end in memory that is filled
  /// Host memory of `length` bytes between disk and a device that the disk can't reach; else null.
  std::byte* staging = nullptr;
  Bytes length;   ///< a multiple of 4 KiB where the disk takes part
  Bytes payload;  ///< what of it counts in the totals (no padding)
  io::Urgency urgency = io::Urgency::kAhead;
  /// Called once, on the engine's or a copy lane's thread; must not block. May start other transfers.
  void (*on_complete)(Transfer&) noexcept = nullptr;
  void* context = nullptr;

  // Set by the mover; `error` is valid in on_complete.
  std::optional<Error> error;

 private:
  friend class Mover;
  Mover* mover_ = nullptr;
  Lane lane_ = Lane::kDiskRead;
  io::Request request_;
  device::Copy copy_;
};

struct LaneTotals {
  std::array<std::uint64_t, kLaneCount> bytes{};
  std::array<std::uint64_t, kLaneCount> busy_ns{};
};

/// Thread-safe. `device` and `engine` outlive it; `engine` may be null when nothing touches the disk. Nothing may be in
/// flight at its end; the destructor waits for threads that are still on their way out of submit() of a transfer that
/// has completed meanwhile, so that the engine and the device can go right after it.
class Mover {
 public:
  Mover(device::Device& device, io::Engine* engine) : device_(device), engine_(engine) {}
  ~Mover();
  Mover(const Mover&) = delete;
  Mover& operator=(const Mover&) = delete;

  /// May block while the engine's inbox is full, so no lock that on_complete takes may be held.
  void start(Transfer& transfer);
  [[nodiscard]] LaneTotals totals() const;
  /// Where a transfer spends its time first: what a caller that waits for it is late on.
  [[nodiscard]] static Lane bottleneck(Tier from, Tier to);

 private:
  void start_io(Transfer& transfer, io::Op op, std::byte* data);
  void start_copy(Transfer& transfer, device::CopyLane lane, std::byte* destination, const std::byte* source);
  static void on_request(io::Request& request) noexcept;
  static void on_copy(device::Copy& copy) noexcept;
  /// The leg that runs is over: starts the next one or completes the transfer.
  void finish_leg(Transfer& transfer) noexcept;
  void enter(Lane lane);  ///< a leg begins, and a call of submit()
  void submitted();       ///< the call has returned
  void leave(Lane lane, Bytes moved);

  // Fixed after start.
  device::Device& device_;
  io::Engine* const engine_;
  // Any thread, under mutex_.
  mutable std::mutex mutex_;
  std::condition_variable no_calls_;
  std::uint32_t calls_ = 0;  ///< threads inside submit()
  LaneTotals totals_;
  std::array<std::uint32_t, kLaneCount> in_flight_{};
  std::array<std::uint64_t, kLaneCount> busy_since_ns_{};
};

}  // namespace strata::tiers
