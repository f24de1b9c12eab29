// A process that commits steps is killed; the next one waits for its lock and finds every step that was acknowledged.
#include <chrono>
#include <csignal>
#include <random>
#include <thread>

#include <sys/wait.h>

#include "support/seed.hpp"
#include "support/store_data.hpp"

namespace strata::tiers {
namespace {

using testing::StorePaths;

/// Commits steps from the last one on until it is killed; writes each acknowledged step to `report`.
[[noreturn]] void work(const StoreOptions& options, int report) {
  auto engine = testing::threads_engine();
  auto store = StateStore::open(options, testing::some_objects(), *engine);
  if (!store) ::_exit(2);
  for (std::uint64_t step = (*store)->durable().step + 1;; ++step) {
    if (!testing::put_step(**store, *engine, step)) ::_exit(3);
    if (::write(report, &step, sizeof step) != sizeof step) ::_exit(4);
  }
}

TEST(StoreKillTest, AcknowledgedStepsSurviveSigkill) {
  std::mt19937_64 random(testing::test_seed());
  StorePaths paths(2);
  StoreOptions options = paths.options();
  options.lock_patience_s = 5;
  {
    auto engine = testing::threads_engine();
    auto store = StateStore::create(options, testing::some_objects(), *engine);
    ASSERT_TRUE(store) << to_string(store.error());
    ASSERT_TRUE(testing::put_step(**store, *engine, 1));
  }
  std::uint64_t acknowledged = 1;
  for (int kill = 0; kill < 10; ++kill) {
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) work(options, pipe[1]);
    ::close(pipe[1]);
    // Half of the kills may hit the opening, half come after the first step.
    if (std::uint64_t step = 0; kill % 2 == 0 && ::read(pipe[0], &step, sizeof step) == sizeof step)
      acknowledged = step;
    std::this_thread::sleep_for(std::chrono::microseconds(testing::pick(random, 0, 20'000)));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    for (std::uint64_t step = 0; ::read(pipe[0], &step, sizeof step) == sizeof step;) acknowledged = step;
    ::close(pipe[0]);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the worker ended by itself with " << WEXITSTATUS(status);

    auto engine = testing::threads_engine();
    auto store = StateStore::open(options, testing::some_objects(), *engine);
    ASSERT_TRUE(store) << to_string(store.error());
    const std::uint64_t found = (*store)->durable().step;
    EXPECT_TRUE(found == acknowledged || found == acknowledged + 1) << found << " after " << acknowledged;
    testing::expect_step(**store, *engine, found);
    acknowledged = found;
  }
  EXPECT_GT(acknowledged, 1u);
}

}  // namespace
}  // namespace strata::tiers
