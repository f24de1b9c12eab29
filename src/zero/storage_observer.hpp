// Catches the use of a weight outside its unit: many kernels crash on a null storage.
#pragma once

#include <cstdint>

#include <ATen/record_function.h>

#include "zero/unit_runtime.hpp"

namespace strata::zero {

/// While alive, every op's inputs are checked, and the unit that owns an unbound storage is bound first (a demand
/// fetch, counted). It can't throw: a failed fetch surfaces at the next UnitRuntime::enter(). Cost: about 0.3 us per
/// op.
class StorageObserver {
 public:
  explicit StorageObserver(UnitRuntime& runtime);
  ~StorageObserver();
  StorageObserver(const StorageObserver&) = delete;
  StorageObserver& operator=(const StorageObserver&) = delete;

 private:
  UnitRuntime* runtime_;
  at::CallbackHandle handle_ = 0;
};

}  // namespace strata::zero
