// Tells ThreadSanitizer of the order that oneTBB keeps between a call and its tasks: the distribution's libtbb is not
// instrumented. Does nothing in other builds.
#pragma once

#if defined(__SANITIZE_THREAD__)
#define STRATA_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define STRATA_TSAN 1
#endif
#endif

#if defined(STRATA_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace strata::optim {

/// What was done before publish() is seen after observe() of the same place.
inline void publish([[maybe_unused]] void* place) {
#if defined(STRATA_TSAN)
  __tsan_release(place);
#endif
}

inline void observe([[maybe_unused]] void* place) {
#if defined(STRATA_TSAN)
  __tsan_acquire(place);
#endif
}

}  // namespace strata::optim
