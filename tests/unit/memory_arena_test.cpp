#include "memory/arena.hpp"

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace strata::memory {
namespace {

using namespace literals;

/// Resident pages of [data, data + size); -1: not mapped.
long resident_pages(const std::byte* data, std::uint64_t size) {
  std::vector<unsigned char> pages(size / 4096);
  // mincore wants a pointer to non-const and writes nothing through it.
  if (::mincore(const_cast<std::byte*>(data), size, pages.data()) != 0) return -1;
  long count = 0;
  for (const unsigned char page : pages) count += page & 1;
  return count;
}

/// The VmFlags of the mapping that holds `data`, from /proc/self/smaps.
std::string flags_of(const std::byte* data) {
  std::ifstream smaps("/proc/self/smaps");
  const auto wanted = reinterpret_cast<std::uintptr_t>(data);
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    std::uintptr_t from = 0;
    std::uintptr_t to = 0;
    char dash = 0;
    if (std::istringstream header(line); header >> std::hex >> from >> dash >> to && dash == '-') {
      inside = from <= wanted && wanted < to;
    } else if (inside && line.rfind("VmFlags:", 0) == 0) {
      return line + " ";
    }
  }
  return {};
}

Arena map(const ArenaOptions& options) {
  auto arena = Arena::map(options);
  EXPECT_TRUE(arena) << to_string(arena.error());
  return arena ? *std::move(arena) : Arena();
}

TEST(ArenaTest, NoBytesAreRefused) {
  const auto arena = Arena::map({.size = 0_B});
  ASSERT_FALSE(arena);
}

TEST(ArenaTest, MoreThanAnAddressSpaceDoesNotFit) {
  for (const std::uint64_t size : {std::uint64_t{1} << 60, ~std::uint64_t{0}}) {
    const auto arena = Arena::map({.size = Bytes(size), .residence = Residence::kLazy});
    ASSERT_FALSE(arena);
    EXPECT_EQ(arena.error().code, ErrorCode::kDoesNotFit);
    EXPECT_EQ(arena.error().os_errno, ENOMEM);
    EXPECT_FALSE(arena.error().hint.empty());
  }
}

TEST(ArenaTest, SizeIsExactAndTheStartIsAHugePage) {
  const Arena arena = map({.size = Bytes((5u << 20) + 1), .page_lock = PageLock::kNone});
  EXPECT_EQ(arena.size().value, (5u << 20) + 4096);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena.data()) % (2u << 20), 0u);
  EXPECT_EQ(resident_pages(arena.data() + arena.size().value, 4096), -1) << "more is mapped than was asked for";
}

TEST(ArenaTest, TouchedIsResidentAndLazyIsNot) {
  const Arena touched = map({.size = 9_MiB, .residence = Residence::kTouched, .page_lock = PageLock::kNone});
  EXPECT_EQ(resident_pages(touched.data(), touched.size().value), 9 * 256);
  const Arena lazy = map({.size = 9_MiB, .residence = Residence::kLazy, .page_lock = PageLock::kNone});
  EXPECT_EQ(resident_pages(lazy.data(), lazy.size().value), 0);
  const Arena locked = map({.size = 9_MiB, .residence = Residence::kLazy, .page_lock = PageLock::kTry});
  EXPECT_EQ(resident_pages(locked.data(), locked.size().value), 0) << "a page lock must not touch a lazy arena";
}

TEST(ArenaTest, KeepsItsBytes) {
  const Arena arena = map({.size = 3_MiB});
  for (std::uint64_t i = 0; i < arena.size().value; i += 997) arena.data()[i] = static_cast<std::byte>(i);
  for (std::uint64_t i = 0; i < arena.size().value; i += 997) ASSERT_EQ(arena.data()[i], static_cast<std::byte>(i));
}

TEST(ArenaTest, IsAdvisedForHugePagesAndAgainstFork) {
  const Arena arena = map({.size = 4_MiB, .page_lock = PageLock::kNone});
  const std::string flags = flags_of(arena.data());
  ASSERT_FALSE(flags.empty());
  EXPECT_NE(flags.find(" dc "), std::string::npos) << flags;  // do not copy on fork
  EXPECT_NE(flags.find(" hg "), std::string::npos) << flags;
}

TEST(ArenaTest, MoveAssignReleasesOldBytes) {
  Arena first = map({.size = 2_MiB, .page_lock = PageLock::kNone});
  Arena second = map({.size = 4_MiB, .page_lock = PageLock::kNone});
  const std::byte* old = first.data();
  const std::byte* kept = second.data();
  first = std::move(second);
  EXPECT_EQ(resident_pages(old, 2u << 20), -1);
  EXPECT_EQ(first.data(), kept);
  EXPECT_EQ(first.size(), 4_MiB);
  EXPECT_EQ(second.data(), nullptr);  // NOLINT: a moved-from arena is empty
  EXPECT_EQ(second.size(), 0_B);
  Arena third(std::move(first));
  EXPECT_EQ(third.data(), kept);
  { const Arena gone(std::move(third)); }
  EXPECT_EQ(resident_pages(kept, 4u << 20), -1);
}

TEST(ArenaTest, ANodeThatIsNotThereIsAShortfall) {
  for (const int node : {1000, 100000}) {
    const Arena arena = map({.size = 2_MiB, .page_lock = PageLock::kNone, .numa_node = node});
    ASSERT_EQ(arena.shortfalls().size(), 1u);
    EXPECT_NE(arena.shortfalls()[0].find(std::to_string(node)), std::string::npos);
  }
}

TEST(ArenaTest, BindsToTheFirstNode) {
  const Arena arena = map({.size = 2_MiB, .page_lock = PageLock::kNone, .numa_node = 0});
  if (!arena.shortfalls().empty()) GTEST_SKIP() << "no NUMA binding here: " << arena.shortfalls()[0];
  EXPECT_EQ(resident_pages(arena.data(), arena.size().value), 512);
}

/// Runs in a child, because a limit that was lowered can't be raised again.
int map_under_a_small_lock_limit() {
  const rlimit limit{.rlim_cur = 65536, .rlim_max = 65536};
  if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 2;
  if (::geteuid() == 0 && ::seteuid(65534) != 0) return 3;  // root may lock beyond the limit
  const auto arena = Arena::map({.size = 4_MiB, .residence = Residence::kLazy, .page_lock = PageLock::kTry});
  if (!arena) return 4;
  if (arena->shortfalls().size() != 1) return 5;
  const std::string& line = arena->shortfalls()[0];
  if (line.find("64.0 KiB") == std::string::npos) return 6;
  if (line.find("ulimit -l") == std::string::npos) return 7;
  arena->data()[0] = std::byte{1};  // usable all the same
  return 0;
}

TEST(ArenaTest, ALockLimitIsAShortfallWithTheCommandThatMendsIt) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) ::_exit(map_under_a_small_lock_limit());
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace strata::memory
