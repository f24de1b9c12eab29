#include "io/engine.hpp"

#include <cstddef>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace strata::io {
namespace {

using namespace literals;

TEST(OpenEngineTest, WrongOptionsAreConfigErrors) {
  const std::vector<EngineOptions> wrong = {
      {.block_size = 0_B}, {.block_size = 5000_B}, {.block_size = 2_GiB}, {.queue_depth = 0},
      {.threads = 0},      {.inbox_capacity = 0},  {.slow_after_s = -1},  {.slow_after_s = 1e300},
  };
  for (const EngineOptions& options : wrong) {
    const auto engine = open_engine(options);
    ASSERT_FALSE(engine);
    EXPECT_EQ(engine.error().code, ErrorCode::kConfig);
    EXPECT_FALSE(engine.error().hint.empty());
  }
}

TEST(OpenEngineTest, ThreadsAreWhatWasAskedFor) {
  const auto engine = open_engine({.kind = EngineKind::kThreads, .threads = 3});
  ASSERT_TRUE(engine);
  EXPECT_EQ((*engine)->description(), "threads (3)");
}

/// As the seccomp profile of containers does: io_uring_setup answers EPERM. Can't be undone, so a child does it.
bool forbid_io_uring() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1 /* EPERM */),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog filter{.len = static_cast<unsigned short>(std::size(program)), .filter = program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

int open_without_io_uring() {
  if (!forbid_io_uring()) return 77;
  const auto strict = open_engine({.kind = EngineKind::kUring});
  if (strict || strict.error().os_errno != EPERM || strict.error().hint.find("seccomp") == std::string::npos) return 1;
  std::vector<std::string> lines;
  EngineOptions options{.kind = EngineKind::kAuto, .threads = 2};
  options.report = [&](std::string_view line) { lines.emplace_back(line); };
  const auto engine = open_engine(options);
  if (!engine || (*engine)->description() != "threads (2)") return 2;
  if (lines.size() != 1 || lines[0].find("threads (2)") == std::string::npos) return 3;
  if (lines[0].find("io_uring") == std::string::npos) return 4;
  return open_engine({.kind = EngineKind::kAuto}) ? 0 : 5;  // nobody listens: no crash
}

TEST(OpenEngineTest, AutoFallsBackToThreadsAndSaysSo) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) ::_exit(open_without_io_uring());
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(OpenEngineDeathTest, ARequestThatWasNeverSubmittedIsNotWaitedFor) {
  Request request;
  EXPECT_DEATH((void)wait(request), "never submitted");
}

TEST(OpenEngineDeathTest, AFileThatWasNeverAttachedIsAProgrammerError) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const EngineKind kind : {EngineKind::kUring, EngineKind::kThreads}) {
    const auto engine = open_engine({.kind = kind});
    if (!engine) continue;
    Request request;
    request.file = FileId(7);
    EXPECT_DEATH((*engine)->submit(request), "never attached");
  }
}

TEST(OpenEngineDeathTest, AMisalignedDirectTransferIsAProgrammerError) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto engine = open_engine({.kind = EngineKind::kThreads});
  ASSERT_TRUE(engine);
  const FileId direct =
      *(*engine)->attach({.fd = {}, .path = "direct", .caching = Caching::kDirect, .file_system = {}});
  const FileId cached =
      *(*engine)->attach({.fd = {}, .path = "cached", .caching = Caching::kBuffered, .file_system = {}});
  std::byte byte{};
  EXPECT_DEATH((void)transfer(**engine, Op::kRead, direct, Offset(1), &byte, Bytes(1)), "multiples of 512");
  EXPECT_FALSE(transfer(**engine, Op::kRead, cached, Offset(1), &byte, Bytes(1))) << "an error, since nothing is open";
}

}  // namespace
}  // namespace strata::io
