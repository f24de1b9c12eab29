#include "tiers/mover.hpp"

#include "base/check.hpp"

namespace strata::tiers {
namespace {

std::size_t index_of(Lane lane) {
  return static_cast<std::size_t>(lane);
}

}  // namespace

Mover::~Mover() {
  std::unique_lock lock(mutex_);
  no_calls_.wait(lock, [this] { return calls_ == 0; });
}

void Mover::start(Transfer& transfer) {
  STRATA_CHECK(transfer.from != transfer.to, "a transfer within one tier");
  STRATA_CHECK(transfer.on_complete != nullptr, "a transfer without a callback");
  transfer.mover_ = this;
  transfer.error.reset();
  if (transfer.from == Tier::kDisk) {
    start_io(transfer, io::Op::kRead, transfer.staging != nullptr ? transfer.staging : transfer.destination);
  } else if (transfer.to != Tier::kDisk) {
    const bool down = transfer.to == Tier::kDevice;
    start_copy(transfer, down ? device::CopyLane::kHostToDevice : device::CopyLane::kDeviceToHost, transfer.destination,
               transfer.source);
  } else if (transfer.staging != nullptr) {
    start_copy(transfer, device::CopyLane::kDeviceToHost, transfer.staging, transfer.source);
  } else {
    start_io(transfer, io::Op::kWrite, transfer.source);
  }
}

void Mover::start_io(Transfer& transfer, io::Op op, std::byte* data) {
  STRATA_CHECK(engine_ != nullptr, "a disk transfer without an I/O engine");
  STRATA_CHECK(transfer.length <= transfer.disk.bytes, "a disk transfer longer than its extent");
  io::Request& request = transfer.request_;
  request.op = op;
  request.urgency = transfer.urgency;
  request.file = transfer.disk.file;
  request.offset = transfer.disk.offset;
  request.data = data;
  request.length = transfer.length;
  request.on_complete = &Mover::on_request;
  request.context = &transfer;
  request.error.reset();
  request.state.store(io::RequestState::kIdle, std::memory_order_relaxed);
  transfer.lane_ = op == io::Op::kRead ? Lane::kDiskRead : Lane::kDiskWrite;
  enter(transfer.lane_);
  engine_->submit(request);
  submitted();
}

void Mover::start_copy(Transfer& transfer, device::CopyLane lane, std::byte* destination, const std::byte* source) {
  device::Copy& copy = transfer.copy_;
  copy.lane = lane;
  copy.destination = destination;
  copy.source = source;
  copy.length = transfer.length;
  copy.on_complete = &Mover::on_copy;
  copy.context = &transfer;
  copy.state.store(device::CopyState::kIdle, std::memory_order_relaxed);
  transfer.lane_ = lane == device::CopyLane::kHostToDevice ? Lane::kHostToDevice : Lane::kDeviceToHost;
  enter(transfer.lane_);
  device_.submit(copy);
  submitted();
}

void Mover::on_request(io::Request& request) noexcept {
  auto& transfer = *static_cast<Transfer*>(request.context);
  if (request.error) transfer.error = std::move(request.error);
  transfer.mover_->finish_leg(transfer);
}

void Mover::on_copy(device::Copy& copy) noexcept {
  auto& transfer = *static_cast<Transfer*>(copy.context);
  transfer.mover_->finish_leg(transfer);
}

void Mover::finish_leg(Transfer& transfer) noexcept {
  leave(transfer.lane_, transfer.error ? Bytes(0) : transfer.payload);
  const bool staged = transfer.staging != nullptr && !transfer.error;
  if (staged && transfer.lane_ == Lane::kDiskRead) {
    start_copy(transfer, device::CopyLane::kHostToDevice, transfer.destination, transfer.staging);
  } else if (staged && transfer.lane_ == Lane::kDeviceToHost) {
    start_io(transfer, io::Op::kWrite, transfer.staging);
  } else {
    transfer.on_complete(transfer);
  }
}

void Mover::enter(Lane lane) {
  const std::lock_guard lock(mutex_);
  if (in_flight_[index_of(lane)]++ == 0) busy_since_ns_[index_of(lane)] = now_ns();
  ++calls_;
}

void Mover::submitted() {
  const std::lock_guard lock(mutex_);
  if (--calls_ == 0) no_calls_.notify_all();  // under the lock: the mover may be gone once it is released
}

void Mover::leave(Lane lane, Bytes moved) {
  const std::lock_guard lock(mutex_);
  const std::size_t i = index_of(lane);
  totals_.bytes[i] += moved.value;
  if (--in_flight_[i] == 0) totals_.busy_ns[i] += now_ns() - busy_since_ns_[i];
}

LaneTotals Mover::totals() const {
  const std::lock_guard lock(mutex_);
  LaneTotals totals = totals_;
  for (std::size_t i = 0; i < kLaneCount; ++i) {
    if (in_flight_[i] > 0) totals.busy_ns[i] += now_ns() - busy_since_ns_[i];
  }
  return totals;
}

Lane Mover::bottleneck(Tier from, Tier to) {
  if (from == Tier::kDisk) return Lane::kDiskRead;
  if (to == Tier::kDisk) return Lane::kDiskWrite;
  return to == Tier::kDevice ? Lane::kHostToDevice : Lane::kDeviceToHost;
}

}  // namespace strata::tiers
