// The floating-point environment of the kernels.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace strata::optim {

/// For its lifetime this thread rounds to nearest and keeps denormals, whatever it did before: a program that turned on
/// flush-to-zero must not change the bits of the training. oneTBB sets a task's environment from the context that
/// started it, so each task makes one of these; it costs some nanoseconds.
class FpEnvironment {
 public:
#if defined(__x86_64__)
  FpEnvironment() : saved_(_mm_getcsr()) {
    _mm_setcsr(kDefault);
  }
  ~FpEnvironment() {
    _mm_setcsr(saved_);
  }
#else
  FpEnvironment() = default;
#endif
  FpEnvironment(const FpEnvironment&) = delete;
  FpEnvironment& operator=(const FpEnvironment&) = delete;

 private:
#if defined(__x86_64__)
  static constexpr unsigned kDefault = 0x1f80;  // all exceptions masked, no FTZ, no DAZ, nearest even
  unsigned saved_;
#endif
};

}  // namespace strata::optim
