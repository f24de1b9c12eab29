// Binds the threads of a oneTBB arena to cores while they work in it.
#pragma once

#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_scheduler_observer.h>
#include <sched.h>

#include <vector>

namespace strata::optim {

/// Binds each thread that enters the arena to the core of its slot, and gives back its old mask when it leaves. The
/// caller's thread is bound too, for the time of the call only.
class PinObserver : public tbb::task_scheduler_observer {
 public:
  /// `cores` has one entry per slot of the arena.
  PinObserver(tbb::task_arena& arena, std::vector<int> cores);
  ~PinObserver() override;
  void on_scheduler_entry(bool is_worker) override;
  void on_scheduler_exit(bool is_worker) override;

 private:
  struct Slot {
    cpu_set_t before;
    bool bound = false;
  };
  const std::vector<int> cores_;
  std::vector<Slot> slots_;  // slot i belongs to the thread that is in it
};

}  // namespace strata::optim
