#include "optim/cores.hpp"

#include <sched.h>

#include <fstream>
#include <set>

namespace strata::optim {

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

std::vector<int> physical_cores(const std::vector<int>& allowed, const std::string& topology) {
  std::vector<int> cores;
  std::set<std::string> seen;
  for (const int cpu : allowed) {
    const std::string name = std::to_string(cpu);
    std::ifstream file(topology + "/cpu" + name + "/topology/thread_siblings_list");
    std::string siblings;
    // All threads of one core show the same list, so the text serves as the core's name.
    if (!std::getline(file, siblings)) siblings = name;
    if (seen.insert(siblings).second) cores.push_back(cpu);
  }
  return cores;
}

}  // namespace strata::optim
