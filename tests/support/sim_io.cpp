#include "support/sim_io.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <fstream>
#include <thread>
#include <utility>

#include "base/check.hpp"
#include "io/engine_parts.hpp"
#include "support/seed.hpp"

namespace strata::testing {
namespace {

constexpr std::uint64_t kSector = 512;

std::size_t index_of(io::Op op) {
  return static_cast<std::size_t>(op);
}

}  // namespace

io::File SimDisk::create(const std::string& path, Bytes size) {
  const std::lock_guard lock(mutex_);
  SimFile& file = files_[path];
  file.durable.assign(size.value, std::byte{0});
  file.visible = file.durable;
  file.unflushed.clear();
  return {.fd = {}, .path = path, .caching = io::Caching::kDirect, .file_system = "simulated"};
}

io::File SimDisk::open(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  STRATA_CHECK(files_.contains(path), "the simulated disk has no such file");
  return {.fd = {}, .path = path, .caching = io::Caching::kDirect, .file_system = "simulated"};
}

void SimDisk::remove(const std::string& path) {
  const std::lock_guard lock(mutex_);
  files_.erase(path);
}

void SimDisk::set_faults(const SimFaults& faults) {
  const std::lock_guard lock(mutex_);
  faults_ = faults;
}

void SimDisk::fail_nth(io::Op op, std::uint64_t nth, int os_errno) {
  const std::lock_guard lock(mutex_);
  planned_[index_of(op)].push_back({.nth = blocks_[index_of(op)] + nth, .os_errno = os_errno});
}

void SimDisk::flip_bit(const std::string& path, Offset offset, unsigned bit) {
  const std::lock_guard lock(mutex_);
  SimFile& file = files_.at(path);
  STRATA_CHECK(offset.value < file.visible.size() && bit < 8, "a bit of the file");
  file.visible[offset.value] ^= std::byte{1} << bit;
  file.durable[offset.value] ^= std::byte{1} << bit;
}

void SimDisk::hold() {
  const std::lock_guard lock(mutex_);
  held_ = true;
}

void SimDisk::release() {
  const std::lock_guard lock(mutex_);
  held_ = false;
  changed_.notify_all();
}

void SimDisk::crash() {
  const std::lock_guard lock(mutex_);
  lose_power();
}

void SimDisk::crash_at_write(std::uint64_t nth) {
  const std::lock_guard lock(mutex_);
  crash_at_ = blocks_[index_of(io::Op::kWrite)] + nth;
}

bool SimDisk::crashed() const {
  const std::lock_guard lock(mutex_);
  return crashed_;
}

void SimDisk::restart() {
  const std::lock_guard lock(mutex_);
  crashed_ = false;
  crash_at_ = 0;
  for (auto& planned : planned_) planned.clear();
}

std::vector<std::byte> SimDisk::contents(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  return files_.at(path).visible;
}

std::uint64_t SimDisk::blocks(io::Op op) const {
  const std::lock_guard lock(mutex_);
  return blocks_[index_of(op)];
}

void SimDisk::adopt(const io::File& file) {
  const std::lock_guard lock(mutex_);
  const auto [entry, is_new] = files_.try_emplace(file.path.string());
  if (!is_new || !file.fd) return;
  std::ifstream real(file.path, std::ios::binary);
  SimFile& sim = entry->second;
  sim.durable.resize(std::filesystem::file_size(file.path));
  real.read(reinterpret_cast<char*>(sim.durable.data()), static_cast<std::streamsize>(sim.durable.size()));
  STRATA_CHECK(real.good() || sim.durable.empty(), "the real file's bytes are read");
  sim.visible = sim.durable;
}

std::uint64_t SimDisk::completed_writes() const {
  const std::lock_guard lock(mutex_);
  return completed_writes_;
}

std::uint64_t SimDisk::pick_below(std::uint64_t count) {
  const std::lock_guard lock(mutex_);
  return pick(random_, 0, count - 1);
}

void SimDisk::pass_time() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !held_; });
  const std::uint64_t us = faults_.latency_max_us == 0 ? 0 : pick(random_, 0, faults_.latency_max_us);
  lock.unlock();
  if (us > 0) std::this_thread::sleep_for(std::chrono::microseconds(us));
}

bool SimDisk::chance(double probability) {
  if (probability <= 0) return false;
  return static_cast<double>(random_() >> 11) * 0x1p-53 < probability;
}

std::int64_t SimDisk::perform(const io::Block& block, const std::string& path, std::uint64_t flush_covers) {
  const std::lock_guard lock(mutex_);
  if (crashed_) return -EIO;
  const io::Op op = block.request->op;
  const std::uint64_t number = ++blocks_[index_of(op)];
  for (const PlannedFailure& planned : planned_[index_of(op)]) {
    if (planned.nth == number) return -planned.os_errno;
  }
  SimFile& file = files_[path];
  if (op == io::Op::kWrite && number == crash_at_) {
    store(file, block.file_offset(), block.data(), block.length);
    lose_power();
    return -EIO;
  }
  if (chance(faults_.interrupted)) return chance(0.5) ? -EINTR : -EAGAIN;
  if (op == io::Op::kFlush) return flush(file, flush_covers);
  std::uint64_t length = block.length;
  if (length > 0 && chance(faults_.short_transfer)) length = pick(random_, 1, length);
  return op == io::Op::kRead ? read(file, block, length) : write(file, block, length);
}

std::int64_t SimDisk::read(SimFile& file, const io::Block& block, std::uint64_t length) {
  if (chance(faults_.read_error)) return -EIO;
  const std::uint64_t offset = block.file_offset();
  if (offset >= file.visible.size()) return 0;
  length = std::min(length, file.visible.size() - offset);
  if (length == 0) return 0;
  std::memcpy(block.data(), file.visible.data() + offset, length);
  if (chance(faults_.read_bit_flip)) {
    block.data()[pick(random_, 0, length - 1)] ^= std::byte{1} << static_cast<unsigned>(pick(random_, 0, 7));
  }
  return static_cast<std::int64_t>(length);
}

std::int64_t SimDisk::write(SimFile& file, const io::Block& block, std::uint64_t length) {
  if (chance(faults_.write_error)) {
    store(file, block.file_offset(), block.data(), pick(random_, 0, length));
    return -EIO;
  }
  if (chance(faults_.torn_write)) {
    for (std::uint64_t at = 0; at < length; at += kSector) {
      if (chance(0.5)) store(file, block.file_offset() + at, block.data() + at, std::min(kSector, length - at));
    }
  } else {
    store(file, block.file_offset(), block.data(), length);
  }
  return static_cast<std::int64_t>(length);
}

void SimDisk::store(SimFile& file, std::uint64_t offset, const std::byte* data, std::uint64_t length) {
  if (length == 0) return;
  if (offset + length > file.visible.size()) {
    // Grows like a sparse file. The new size is durable at once: a journal keeps it, or fallocate made it before.
    file.visible.resize(offset + length);
    file.durable.resize(offset + length);
  }
  std::memcpy(file.visible.data() + offset, data, length);
  file.unflushed.push_back({.order = ++completed_writes_, .offset = offset, .bytes = {data, data + length}});
}

std::int64_t SimDisk::flush(SimFile& file, std::uint64_t covers) {
  if (chance(faults_.flush_error)) return -EIO;
  if (chance(faults_.lost_flush)) return 0;
  const auto covered = std::partition_point(file.unflushed.begin(), file.unflushed.end(),
                                            [covers](const UnflushedWrite& w) { return w.order <= covers; });
  for (auto w = file.unflushed.begin(); w != covered; ++w) {
    std::copy(w->bytes.begin(), w->bytes.end(), file.durable.begin() + static_cast<std::ptrdiff_t>(w->offset));
  }
  file.unflushed.erase(file.unflushed.begin(), covered);
  return 0;
}

void SimDisk::lose_power() {
  if (crashed_) return;
  crashed_ = true;
  held_ = false;
  changed_.notify_all();
  // From "nothing reached the medium" to "all of it did"; the ends are the commonest cases of real drives.
  constexpr double kSurvival[] = {0.0, 0.25, 0.5, 0.75, 1.0};
  for (auto& [path, file] : files_) {
    const double survival = kSurvival[pick(random_, 0, std::size(kSurvival) - 1)];
    for (const UnflushedWrite& w : file.unflushed) {
      for (std::uint64_t at = 0; at < w.bytes.size(); at += kSector) {
        if (!chance(survival)) continue;
        const std::uint64_t length = std::min<std::uint64_t>(kSector, w.bytes.size() - at);
        std::memcpy(file.durable.data() + w.offset + at, w.bytes.data() + at, length);
      }
    }
    file.unflushed.clear();
    file.visible = file.durable;
  }
}

class SimEngine final : public io::Engine {
 public:
  SimEngine(SimDisk& disk, const io::EngineOptions& options)
      : disk_(disk),
        inbox_capacity_(options.inbox_capacity),
        scheduler_({.queue_depth = options.queue_depth, .block_size = options.block_size}, files_, stats_),
        thread_([this] { run(); }) {}

  ~SimEngine() override {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    work_.notify_all();
    thread_.join();
  }

  Result<io::FileId> attach(io::File file) override {
    disk_.adopt(file);
    return files_.add(std::move(file));
  }

  void submit(io::Request& request) override {
    io::begin(request, files_);
    std::unique_lock lock(mutex_);
    if (std::this_thread::get_id() != thread_.get_id()) {
      not_full_.wait(lock, [this] { return scheduler_.waiting() < inbox_capacity_; });
    }
    if (request.op == io::Op::kFlush) flush_covers_[&request] = disk_.completed_writes();
    scheduler_.add(request);
    work_.notify_one();
  }

  io::EngineStats stats() const override { return stats_.read(); }
  std::string description() const override { return "simulated"; }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      while (io::Block* block = scheduler_.next()) in_flight_.push_back(block);
      if (in_flight_.empty()) {
        if (closing_ && scheduler_.outstanding() == 0) return;
        work_.wait(lock);
        continue;
      }
      not_full_.notify_all();
      const std::uint64_t chosen = disk_.pick_below(in_flight_.size());
      io::Block& block = *in_flight_[chosen];
      in_flight_.erase(in_flight_.begin() + static_cast<std::ptrdiff_t>(chosen));
      serve(block, lock);
    }
  }

  void serve(io::Block& block, std::unique_lock<std::mutex>& lock) {
    io::Request& request = *block.request;
    const std::uint64_t covers = request.op == io::Op::kFlush ? flush_covers_.at(&request) : 0;
    lock.unlock();
    disk_.pass_time();
    const std::int64_t result = disk_.perform(block, files_.at(request.file).path.string(), covers);
    lock.lock();
    switch (scheduler_.finish(block, result)) {
      case io::BlockScheduler::Verdict::kAgain: in_flight_.push_back(&block); return;
      case io::BlockScheduler::Verdict::kPending: return;
      case io::BlockScheduler::Verdict::kDone: break;
    }
    flush_covers_.erase(&request);
    lock.unlock();
    io::complete(request);
    lock.lock();
  }

  SimDisk& disk_;
  const std::uint32_t inbox_capacity_;
  io::FileTable files_;
  io::StatCounters stats_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable not_full_;
  io::BlockScheduler scheduler_;  // under mutex_, as the rest of this group
  std::map<const io::Request*, std::uint64_t> flush_covers_;
  std::vector<io::Block*> in_flight_;
  bool closing_ = false;
  std::thread thread_;  // last: it uses all of the above
};

Result<std::unique_ptr<io::Engine>> open_sim_engine(SimDisk& disk, const io::EngineOptions& options) {
  return std::make_unique<SimEngine>(disk, options);
}

}  // namespace strata::testing
