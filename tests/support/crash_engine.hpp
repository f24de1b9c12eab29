// A disk that loses power: what was not flushed may survive in any mixture of sectors. For tests of the state store.
#pragma once

#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "base/check.hpp"
#include "base/fd.hpp"
#include "io/engine.hpp"

namespace strata::testing {

/// Outlives the engines of successive starts. Writes go to the real file at once; the log keeps what each sector of 512
/// bytes held at the last flush and has held since.
class CrashDisk {
 public:
  static constexpr std::size_t kSector = 512;
  using Sector = std::array<std::byte, kSector>;

  enum class Survival : std::uint8_t { kNothing, kEverything, kRandomSectors, kRandomWrites };

  void before_write(const std::filesystem::path& file, int fd, const io::Request& request) {
    FileLog& log = files_[file];
    ++log.writes;
    for (std::uint64_t at = 0; at < request.length.value; at += kSector) {
      const std::uint64_t offset = request.offset.value + at;
      auto& versions = log.sectors[offset];
      if (versions.empty()) {
        Sector old{};
        STRATA_CHECK(::pread(fd, old.data(), kSector, static_cast<off_t>(offset)) == kSector, "read of a sector");
        versions.push_back({old, 0});
      }
      Version now{{}, log.writes};
      std::memcpy(now.bytes.data(), request.data + at, kSector);
      versions.push_back(now);
    }
  }

  void flushed(const std::filesystem::path& file) { files_[file] = {}; }

  /// Gives every sector one of its versions since the last flush.
  void crash(std::mt19937_64& random, Survival survival) {
    for (auto& [file, log] : files_) {
      const Fd fd(::open(file.c_str(), O_RDWR | O_CLOEXEC));
      STRATA_CHECK(static_cast<bool>(fd), file.string());
      std::vector<bool> kept(log.writes + 1, true);
      for (std::size_t i = 1; i < kept.size(); ++i) kept[i] = random() % 2 == 0;
      for (const auto& [offset, versions] : log.sectors) {
        const Version& chosen = choose(versions, random, survival, kept);
        STRATA_CHECK(::pwrite(fd.get(), chosen.bytes.data(), kSector, static_cast<off_t>(offset)) == kSector, "write");
      }
      log = {};
    }
  }

 private:
  struct Version {
    Sector bytes;
    std::uint64_t write = 0;  ///< number of the write since the last flush; 0: what was there
  };
  struct FileLog {
    std::uint64_t writes = 0;
    std::map<std::uint64_t, std::vector<Version>> sectors;
  };

  static const Version& choose(const std::vector<Version>& versions, std::mt19937_64& random, Survival survival,
                               const std::vector<bool>& kept) {
    switch (survival) {
      case Survival::kNothing: return versions.front();
      case Survival::kEverything: return versions.back();
      case Survival::kRandomSectors: return versions[random() % versions.size()];
      case Survival::kRandomWrites: break;
    }
    const Version* last = &versions.front();
    for (const Version& version : versions) {
      if (kept[version.write]) last = &version;
    }
    return *last;
  }

  std::map<std::filesystem::path, FileLog> files_;
};

/// Synchronous. The power fails after a given number of writes and flushes: they and all later requests then fail and
/// change nothing. Other threads than the maker's (the store's) can be made to wait for permits, so that a test decides
/// how far a commit gets.
class CrashEngine final : public io::Engine {
 public:
  explicit CrashEngine(CrashDisk& disk) : disk_(disk), maker_(std::this_thread::get_id()) {}

  [[nodiscard]] Result<io::FileId> attach(io::File file) override {
    const std::lock_guard lock(mutex_);
    // Not the file's own descriptor: that may want aligned memory.
    Fd fd(::open(file.path.c_str(), O_RDWR | O_CLOEXEC));
    STRATA_CHECK(static_cast<bool>(fd), file.path.string());
    files_.push_back({std::move(file), std::move(fd)});
    return io::FileId(static_cast<std::uint32_t>(files_.size() - 1));
  }

  void submit(io::Request& request) override {
    request.error.reset();
    {
      std::unique_lock lock(mutex_);
      if (std::this_thread::get_id() != maker_) {
        changed_.wait(lock, [this] { return permits_ > 0 || !power_; });
        if (permits_ != kUnlimited && permits_ > 0) --permits_;
      }
      perform(request);
      changed_.notify_all();
    }
    const auto on_complete = request.on_complete;
    request.state.store(io::RequestState::kDone);
    request.state.notify_all();
    if (on_complete != nullptr) on_complete(request);
  }

  [[nodiscard]] io::EngineStats stats() const override { return {}; }
  [[nodiscard]] std::string description() const override { return "crash"; }

  /// The next `count` writes and flushes succeed, then the power fails.
  void fail_power_after(std::uint64_t count) {
    const std::lock_guard lock(mutex_);
    remaining_ = count;
    if (count == 0) power_ = false;
    changed_.notify_all();
  }
  [[nodiscard]] bool powered() const {
    const std::lock_guard lock(mutex_);
    return power_;
  }
  /// Only this request fails, with EIO.
  void fail_once_after(std::uint64_t count) {
    const std::lock_guard lock(mutex_);
    fail_at_ = operations_ + count;
  }

  void hold_others() {
    const std::lock_guard lock(mutex_);
    permits_ = 0;
  }
  void release_others() {
    const std::lock_guard lock(mutex_);
    permits_ = kUnlimited;
    changed_.notify_all();
  }
  /// Lets the others do `count` requests, and waits until they have (or the power fails).
  void let_others(std::uint64_t count) {
    std::unique_lock lock(mutex_);
    permits_ += count;
    changed_.notify_all();
    changed_.wait(lock, [this] { return permits_ == 0 || !power_; });
  }

  /// 'W' and 'F' with the file's number and the offset, in the order in which they were performed.
  struct Performed {
    io::Op op;
    std::uint32_t file;
    std::uint64_t offset;
  };
  [[nodiscard]] std::vector<Performed> performed() const {
    const std::lock_guard lock(mutex_);
    return performed_;
  }

 private:
  static constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

  struct Attached {
    io::File file;
    Fd fd;
  };

  void perform(io::Request& request) {
    Attached& file = files_[request.file.value];
    if (request.op != io::Op::kRead) {
      if (operations_++ == fail_at_) {
        request.error = Error{ErrorCode::kIo, EIO, file.file.path.string() + ": injected error", {}};
        return;
      }
      if (power_ && remaining_-- == 0) power_ = false;
    }
    if (!power_) {
      request.error = Error{ErrorCode::kIo, EIO, file.file.path.string() + ": the power has failed", {}};
      return;
    }
    if (request.op != io::Op::kRead) performed_.push_back({request.op, request.file.value, request.offset.value});
    const auto at = static_cast<off_t>(request.offset.value);
    const auto length = static_cast<ssize_t>(request.length.value);
    ssize_t moved = length;
    switch (request.op) {
      case io::Op::kRead: moved = ::pread(file.fd.get(), request.data, request.length.value, at); break;
      case io::Op::kWrite:
        disk_.before_write(file.file.path, file.fd.get(), request);
        moved = ::pwrite(file.fd.get(), request.data, request.length.value, at);
        break;
      case io::Op::kFlush: disk_.flushed(file.file.path); break;
    }
    if (request.op != io::Op::kFlush && moved != length) {
      request.error = Error{ErrorCode::kIo, EIO, file.file.path.string() + ": short transfer", {}};
    }
  }

  CrashDisk& disk_;
  const std::thread::id maker_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Attached> files_;
  std::vector<Performed> performed_;
  bool power_ = true;
  std::uint64_t remaining_ = kUnlimited;
  std::uint64_t operations_ = 0;
  std::uint64_t fail_at_ = kUnlimited;
  std::uint64_t permits_ = kUnlimited;
};

}  // namespace strata::testing
