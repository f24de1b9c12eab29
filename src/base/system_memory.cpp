#include "base/system_memory.hpp"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

namespace strata {
namespace {

/// The value of "Name:   123 kB" lines.
std::optional<std::uint64_t> kib_field(const char* file, const std::string& name) {
  std::ifstream in(file);
  std::string key;
  while (in >> key) {
    std::uint64_t value = 0;
    if (key == name + ":" && in >> value) return value;
    in.ignore(4096, '\n');
  }
  return std::nullopt;
}

std::optional<std::uint64_t> number_in(const std::string& file) {
  std::ifstream in(file);
  std::uint64_t value = 0;
  if (in >> value) return value;
  return std::nullopt;
}

/// The cgroup's path of this process under `controller` (empty: v2).
std::string cgroup_path(const std::string& controller) {
  std::ifstream in("/proc/self/cgroup");
  std::string line;
  while (std::getline(in, line)) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    if (line.substr(first + 1, second - first - 1) == controller) return line.substr(second + 1);
  }
  return {};
}

std::optional<std::uint64_t> cgroup_room() {
  struct Place {
    std::string limit;
    std::string usage;
  };
  const std::string v2 = cgroup_path("");
  const std::string v1 = cgroup_path("memory");
  const Place places[] = {{"/sys/fs/cgroup" + v2 + "/memory.max", "/sys/fs/cgroup" + v2 + "/memory.current"},
                          {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
                          {"/sys/fs/cgroup/memory" + v1 + "/memory.limit_in_bytes",
                           "/sys/fs/cgroup/memory" + v1 + "/memory.usage_in_bytes"}};
  for (const Place& place : places) {
    const auto limit = number_in(place.limit);
    const auto usage = number_in(place.usage);
    if (limit && usage && *limit < (1ull << 60)) return *limit > *usage ? *limit - *usage : 0;
  }
  return std::nullopt;
}

}  // namespace

Result<Bytes> available_memory() {
  const auto available = kib_field("/proc/meminfo", "MemAvailable");
  if (!available) return fail(ErrorCode::kInternal, "no MemAvailable in /proc/meminfo", "give memory budgets by hand");
  std::uint64_t bytes = *available * 1024;
  if (const auto room = cgroup_room()) bytes = std::min(bytes, *room);
  return Bytes(bytes);
}

Result<Bytes> resident_memory() {
  const auto anonymous = kib_field("/proc/self/status", "RssAnon");
  const auto shared = kib_field("/proc/self/status", "RssShmem");
  const auto huge = kib_field("/proc/self/status", "HugetlbPages");
  if (!anonymous) return fail(ErrorCode::kInternal, "no RssAnon in /proc/self/status");
  return Bytes((*anonymous + shared.value_or(0) + huge.value_or(0)) * 1024);
}

}  // namespace strata
