#include "memory/arena.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <string_view>
#include <system_error>
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
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kMaxSize = std::uint64_t{1} << 47;  // of an address space
constexpr std::size_t kMaxNodes = 1024;                     // MAX_NUMNODES of any kernel
constexpr std::size_t kBits = 8 * sizeof(unsigned long);

void touch_part(std::byte* data, std::uint64_t from, std::uint64_t to) {
  for (std::uint64_t at = from; at < to; at += kPage) static_cast<volatile std::byte*>(data)[at] = std::byte{0};
}

/// One thread takes seconds per GiB, so all cores do it.
void touch(std::byte* data, std::uint64_t size) {
  const std::uint64_t threads = std::max(1u, std::thread::hardware_concurrency());
  const std::uint64_t part = round_up((size + threads - 1) / threads, kHugePage);
  std::vector<std::jthread> workers;
  for (std::uint64_t from = 0; from < size; from += part) {
    const std::uint64_t to = std::min(size, from + part);
    try {
      workers.emplace_back([data, from, to] { touch_part(data, from, to); });
    } catch (const std::system_error&) {  // no more threads: this one does the rest
      touch_part(data, from, to);
    }
  }
}

/// Anonymous memory that begins at a 2 MiB border, so that all of it can be huge pages; nullptr with errno set.
std::byte* map_aligned(std::uint64_t size) {
  const std::uint64_t room = size + kHugePage;
  void* mapping = ::mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  const auto address = reinterpret_cast<std::uintptr_t>(mapping);
  const std::uint64_t before = round_up(address, kHugePage) - address;
  auto* data = static_cast<std::byte*>(mapping) + before;
  if (before > 0) ::munmap(mapping, before);
  if (room > before + size) ::munmap(data + size, room - before - size);
  return data;
}

/// madvise succeeds even where the administrator has switched huge pages off.
bool huge_pages_are_off() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string line;
  return std::getline(file, line) && line.find("[never]") != std::string::npos;
}

bool bind_to_node(std::byte* data, std::uint64_t size, int node) {
  const auto index = static_cast<std::size_t>(node);
  if (index >= kMaxNodes) return false;
  std::array<unsigned long, kMaxNodes / kBits> mask{};
  mask[index / kBits] = 1ul << (index % kBits);
  return ::mbind(data, size, MPOL_BIND, mask.data(), kMaxNodes, 0) == 0;
}

std::string limit_text() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return "unknown";
  return limit.rlim_cur == RLIM_INFINITY ? "none" : format_size(Bytes(limit.rlim_cur));
}

}  // namespace

Result<Arena> Arena::map(const ArenaOptions& options) {
  if (options.size.value == 0) return fail(ErrorCode::kInternal, "an arena of no bytes was asked for");
  Arena arena;
  arena.data_ = options.size.value > kMaxSize ? nullptr : map_aligned(round_up(options.size.value, kPage));
  if (arena.data_ == nullptr) {
    return fail(ErrorCode::kDoesNotFit, fmt::format("cannot map {} of memory", format_size(options.size)),
                "give a smaller memory budget", options.size.value > kMaxSize ? ENOMEM : errno);
  }
  arena.size_ = round_up(options.size, Bytes(kPage));
  const std::uint64_t size = arena.size_.value;
  if (::madvise(arena.data_, size, MADV_HUGEPAGE) != 0 || huge_pages_are_off()) {
    arena.shortfalls_.push_back(
        "no huge pages, so disk and optimizer run slower: echo madvise > "
        "/sys/kernel/mm/transparent_hugepage/enabled");
  }
  if (::madvise(arena.data_, size, MADV_DONTFORK) != 0) {
    return fail(ErrorCode::kInternal, "cannot keep an arena from being copied by fork", {}, errno);
  }
  if (options.numa_node >= 0 && !bind_to_node(arena.data_, size, options.numa_node)) {
    arena.shortfalls_.push_back(
        fmt::format("memory is not bound to NUMA node {}: see numactl --hardware", options.numa_node));
  }
  if (options.residence == Residence::kTouched) touch(arena.data_, size);
  if (options.page_lock == PageLock::kTry) {
    const unsigned flags = options.residence == Residence::kLazy ? MLOCK_ONFAULT : 0;
    if (::mlock2(arena.data_, size, flags) != 0) {
      arena.shortfalls_.push_back(fmt::format("{} of memory could not be page-locked (limit: {}): ulimit -l unlimited",
                                              format_size(arena.size_), limit_text()));
    }
  }
  return arena;
}

void Arena::unmap() noexcept {
  if (data_ != nullptr) ::munmap(data_, size_.value);
  data_ = nullptr;
  size_ = Bytes(0);
}

Arena::Arena(Arena&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, Bytes(0))),
      shortfalls_(std::exchange(other.shortfalls_, {})) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  if (this != &other) {
    unmap();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, Bytes(0));
    shortfalls_ = std::exchange(other.shortfalls_, {});
  }
  return *this;
}

Arena::~Arena() {
  unmap();
}

}  // namespace strata::memory
