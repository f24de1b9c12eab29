#include "optim/pin_observer.hpp"

#include <cstddef>
#include <utility>

namespace strata::optim {

PinObserver::PinObserver(tbb::task_arena& arena, std::vector<int> cores)
    : tbb::task_scheduler_observer(arena), cores_(std::move(cores)), slots_(cores_.size()) {
  observe(true);
}

PinObserver::~PinObserver() {
  observe(false);
}

void PinObserver::on_scheduler_entry(bool /*is_worker*/) {
  const int index = tbb::this_task_arena::current_thread_index();
  if (index < 0 || static_cast<std::size_t>(index) >= slots_.size()) return;
  Slot& slot = slots_[static_cast<std::size_t>(index)];
  cpu_set_t wanted;
  CPU_ZERO(&wanted);
  CPU_SET(cores_[static_cast<std::size_t>(index)], &wanted);
  // A hint: where the system refuses it, the thread stays where the OS puts it and the results are the same.
  slot.bound = ::sched_getaffinity(0, sizeof(slot.before), &slot.before) == 0 &&
               ::sched_setaffinity(0, sizeof(wanted), &wanted) == 0;
}

void PinObserver::on_scheduler_exit(bool /*is_worker*/) {
  const int index = tbb::this_task_arena::current_thread_index();
  if (index < 0 || static_cast<std::size_t>(index) >= slots_.size()) return;
  Slot& slot = slots_[static_cast<std::size_t>(index)];
  if (std::exchange(slot.bound, false)) ::sched_setaffinity(0, sizeof(slot.before), &slot.before);
}

}  // namespace strata::optim
