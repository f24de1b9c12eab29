// Which cores the workers may have.
#pragma once

#include <string>
#include <vector>

namespace strata::optim {

/// The CPUs that this thread may run on (its affinity mask), rising. Empty where the mask can't be read.
[[nodiscard]] std::vector<int> allowed_cpus();

/// The first allowed CPU of each physical core, in the order of `allowed`. `topology` is the folder that holds
/// cpu<N>/topology/thread_siblings_list; a CPU without that file counts as a core of its own.
[[nodiscard]] std::vector<int> physical_cores(const std::vector<int>& allowed,
                                              const std::string& topology = "/sys/devices/system/cpu");

}  // namespace strata::optim
