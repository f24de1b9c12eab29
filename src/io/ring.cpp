#include "io/ring.hpp"

#include <cerrno>
#include <ctime>

#include "base/check.hpp"

// liburing 2.3 knows them only in part; the kernel says at run time whether it has them.
#ifndef IORING_SETUP_COOP_TASKRUN
#define IORING_SETUP_COOP_TASKRUN (1U << 8)
#endif
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

namespace strata::io {
namespace {

struct Flavour {
  unsigned flags;
  const char* description;
};

constexpr Flavour kFlavours[] = {
    {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, "io_uring (single issuer, deferred task run)"},  // 6.1
    {IORING_SETUP_COOP_TASKRUN, "io_uring (cooperative task run)"},                                            // 5.19
    {0, "io_uring"},
};

// No completion is lost when the queue is full (5.5), and waiting takes a timeout (5.11).
constexpr unsigned kNeededFeatures = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;

constexpr unsigned kCompletionEntries = 4096;

tl::unexpected<Error> refused(int os_errno) {
  return fail(
      ErrorCode::kIo, "the kernel refuses io_uring",
      "set strata.io_engine to threads, or allow io_uring (container seccomp profile, kernel.io_uring_disabled)",
      os_errno);
}

void back_off() {
  const timespec pause{.tv_sec = 0, .tv_nsec = 1'000'000};
  ::nanosleep(&pause, nullptr);
}

}  // namespace

Result<std::unique_ptr<Ring>> Ring::open(unsigned entries) {
  std::unique_ptr<Ring> ring(new Ring);
  int status = -EINVAL;
  for (const Flavour& flavour : kFlavours) {
    io_uring_params params{};
    params.flags = flavour.flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    params.cq_entries = kCompletionEntries;
    status = io_uring_queue_init_params(entries, &ring->ring_, &params);
    if (status == 0) {
      ring->open_ = true;
      ring->description_ = flavour.description;
      break;
    }
    if (status != -EINVAL) break;  // EINVAL: the kernel is older than the flags
  }
  if (status != 0) return refused(-status);
  if ((ring->ring_.features & kNeededFeatures) != kNeededFeatures) return refused(ENOSYS);
  if (const int forked = io_uring_ring_dontfork(&ring->ring_); forked != 0) return refused(-forked);
  return ring;
}

Ring::~Ring() {
  if (open_) io_uring_queue_exit(&ring_);
}

io_uring_sqe* Ring::entry() {
  for (;;) {
    if (io_uring_sqe* sqe = io_uring_get_sqe(&ring_); sqe != nullptr) return sqe;
    const int submitted = io_uring_submit(&ring_);
    if (submitted == -EAGAIN || submitted == -ENOMEM) {
      back_off();  // the kernel is short of memory for a moment
      continue;
    }
    STRATA_CHECK(submitted >= 0 || submitted == -EINTR, "the kernel does not take submissions");
  }
}

void Ring::submit_and_wait(std::uint64_t timeout_ns) {
  int status = 0;
  if (timeout_ns == 0) {
    status = io_uring_submit_and_wait(&ring_, 1);
  } else {
    __kernel_timespec timeout{.tv_sec = static_cast<long long>(timeout_ns / 1'000'000'000u),
                              .tv_nsec = static_cast<long long>(timeout_ns % 1'000'000'000u)};
    io_uring_cqe* first = nullptr;
    status = io_uring_submit_and_wait_timeout(&ring_, &first, 1, &timeout, nullptr);
  }
  if (status == -EAGAIN || status == -ENOMEM) {
    back_off();
    return;
  }
  STRATA_CHECK(status >= 0 || status == -EINTR || status == -ETIME, "the kernel does not take submissions");
}

}  // namespace strata::io
