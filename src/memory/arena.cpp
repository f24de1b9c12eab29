#include "memory/arena.hpp"

#include <algorithm>
#include <cerrno>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <numaif.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/size_text.hpp"

namespace strata::memory {
namespace {

constexpr std::uint64_t kHugePage = 2u << 20;

void touch(std::byte* data, std::uint64_t size) {
  const std::uint64_t parts = std::max(1u, std::thread::hardware_concurrency());
  const std::uint64_t part = round_up(size / parts + 1, kHugePage);
  std::vector<std::jthread> workers;
  for (std::uint64_t from = 0; from < size; from += part) {
    workers.emplace_back([data, from, to = std::min(size, from + part)] {
      for (std::uint64_t at = from; at < to; at += 4096) static_cast<volatile std::byte*>(data)[at] = std::byte{0};
    });
  }
}

}  // namespace

Result<Arena> Arena::map(const ArenaOptions& options) {
  Arena arena;
  arena.size_ = round_up(options.size, Bytes(4096));
  if (arena.size_.value == 0) return fail(ErrorCode::kInternal, "an arena of no bytes was asked for");
  // Room to move the start to a 2 MiB border, so that the whole arena can be huge pages.
  arena.mapping_size_ = arena.size_ + Bytes(kHugePage);
  void* mapping = ::mmap(nullptr, arena.mapping_size_.value, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    arena.mapping_size_ = Bytes(0);
    return fail(ErrorCode::kDoesNotFit, fmt::format("cannot map {} of memory", format_size(arena.size_)),
                "give a smaller memory budget", errno);
  }
  arena.mapping_ = static_cast<std::byte*>(mapping);
  const auto address = reinterpret_cast<std::uintptr_t>(mapping);
  arena.data_ = reinterpret_cast<std::byte*>(round_up(address, kHugePage));

  if (::madvise(arena.data_, arena.size_.value, MADV_HUGEPAGE) != 0) {
    arena.shortfalls_.push_back(
        "no huge pages for the arena, disk and optimizer run slower; echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
  }
  ::madvise(arena.data_, arena.size_.value, MADV_DONTFORK);
  if (options.numa_node >= 0) {
    const unsigned long mask = 1ul << static_cast<unsigned>(options.numa_node);
    if (::mbind(arena.data_, arena.size_.value, MPOL_BIND, &mask, sizeof(mask) * 8, 0) != 0) {
      arena.shortfalls_.push_back(fmt::format("memory is not bound to NUMA node {}: check numactl --hardware",
                                              options.numa_node));
    }
  }
  if (options.residence == Residence::kTouched) touch(arena.data_, arena.size_.value);
  if (options.page_lock == PageLock::kTry && ::mlock(arena.data_, arena.size_.value) != 0) {
    rlimit limit{};
    ::getrlimit(RLIMIT_MEMLOCK, &limit);
    arena.shortfalls_.push_back(fmt::format("{} could not be page-locked (limit {}): ulimit -l unlimited",
                                            format_size(arena.size_), format_size(Bytes(limit.rlim_cur))));
  }
  return arena;
}

Arena::Arena(Arena&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, Bytes(0))),
      mapping_(std::exchange(other.mapping_, nullptr)),
      mapping_size_(std::exchange(other.mapping_size_, Bytes(0))),
      shortfalls_(std::move(other.shortfalls_)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapping_size_, other.mapping_size_);
  std::swap(shortfalls_, other.shortfalls_);
  return *this;
}

Arena::~Arena() {
  if (mapping_ != nullptr) ::munmap(mapping_, mapping_size_.value);
}

}  // namespace strata::memory
