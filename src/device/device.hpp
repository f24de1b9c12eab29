// The seam to what computes: its memory, and the lanes that copy to and from it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "strata/types.hpp"

namespace strata::device {

enum class CopyLane : std::uint8_t { kHostToDevice, kDeviceToHost };

enum class CopyState : std::uint32_t { kIdle, kQueued, kDone };

/// One copy: a completion token that its caller owns and does not move until kDone.
struct Copy {
  Copy() = default;
  Copy(const Copy&) = delete;
  Copy& operator=(const Copy&) = delete;

  CopyLane lane = CopyLane::kHostToDevice;
  std::byte* destination = nullptr;
  const std::byte* source = nullptr;
  Bytes length;
  /// Called once, on the lane's thread; short, non-blocking; may submit further copies. May be null: then wait().
  void (*on_complete)(Copy&) noexcept = nullptr;
  void* context = nullptr;

  std::atomic<CopyState> state{CopyState::kIdle};
  Copy* next = nullptr;
};

/// How the host sees device memory.
enum class Addressing : std::uint8_t {
  kSeparate,  ///< bytes must be copied over a lane (CUDA; HostDevice as a stand-in GPU)
  kShared     ///< device memory is host memory: a disk read may land in it, and host bytes may be computed on in place
};

/// Contract (tests/conformance/device_suite): copies on one lane complete in the order of submission; two lanes run at
/// the same time; the destructor waits for what is queued. submit() may be called by any thread.
class Device {
 public:
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /// The device's memory that Strata owns: exactly the budget, one range. 2 MiB aligned.
  [[nodiscard]] virtual std::byte* arena() const = 0;
  [[nodiscard]] virtual Bytes arena_size() const = 0;
  [[nodiscard]] virtual Addressing addressing() const = 0;
  virtual void submit(Copy& copy) = 0;
  [[nodiscard]] virtual std::string description() const = 0;

 protected:
  Device() = default;
};

void wait(Copy& copy);

struct HostDeviceOptions {
  Bytes memory;
  Addressing addressing = Addressing::kShared;
  /// 0: as fast as memcpy. Else the lane sleeps so that bytes / second stay below it (tests of overlap and planning).
  double h2d_bytes_per_s = 0;
  double d2h_bytes_per_s = 0;
};

/// A device made of host memory: real CPU training, and a stand-in GPU with its own capped arena and copy threads.
/// Its arena is lazy (memory::Residence::kLazy).
[[nodiscard]] Result<std::unique_ptr<Device>> open_host_device(const HostDeviceOptions& options);

}  // namespace strata::device
