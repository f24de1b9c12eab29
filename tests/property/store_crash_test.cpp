// Random programs against the state store on a disk that loses power, compared with a model. And proof that they would
// notice: each mutilation of the protocol must lose data in some program.
#include <fstream>
#include <optional>

#include <fmt/format.h>

#include "support/crash_engine.hpp"
#include "support/seed.hpp"
#include "support/store_data.hpp"
#include "tiers/state_store_impl.hpp"

namespace strata::tiers {
namespace {

using testing::CrashDisk;
using testing::CrashEngine;
using testing::pick;
using testing::StorePaths;
using Keys = std::vector<std::optional<std::uint64_t>>;  ///< by object: what it holds, if ever written

struct ModelGeneration {
  Generation generation = 0;
  std::uint64_t step = 0;
  Keys keys;
};

/// Thousands of small files and folder syncs: in memory where that is to be had.
class StoreCrashTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (std::filesystem::is_directory("/dev/shm")) ::setenv("TMPDIR", "/dev/shm", 0);
  }
};
using StoreMutationTest = StoreCrashTest;

std::string metadata_of(std::uint64_t step) {
  return fmt::format("{{\"step\":{}}}", step);
}

/// One store through many starts. check() and the operations set `violation` once.
class Program {
 public:
  Program(std::uint64_t seed, const StoreHooks& hooks) : random_(seed), hooks_(hooks), paths_(pick(random_, 1, 2)) {
    options_ = paths_.options();
    options_.slots = static_cast<std::uint32_t>(pick(random_, 1, 3));
    objects_.resize(pick(random_, 1, 4));
    for (std::size_t i = 0; i < objects_.size(); ++i) {
      objects_[i] = {fmt::format("object {}", i), Bytes(pick(random_, 1, 12'000))};
    }
    create();
  }

  std::optional<std::string> run(int operations) {
    for (int i = 0; i < operations && !violation_; ++i) {
      if (pick(random_, 0, 11) == 0) engine_->fail_power_after(pick(random_, 0, 14));
      take_one();
      if (!violation_ && !engine_->powered()) crash();
    }
    if (!violation_) crash();
    return violation_;
  }

 private:
  void violate(const std::string& what) {
    if (!violation_) violation_ = what;
  }

  void create() {
    durable_ = {};
    durable_.keys.resize(objects_.size());
    touched_ = Touched::kNo;
    engine_ = std::make_unique<CrashEngine>(disk_);
    started(StoreFactory::create(options_, objects_, *engine_, hooks_));
  }

  void open() {
    engine_ = std::make_unique<CrashEngine>(disk_);
    auto store = StoreFactory::open(options_, objects_, *engine_, hooks_);
    const bool is_dirty = !store && store.error().message.find("updated in place") != std::string::npos;
    if (!is_dirty || options_.slots > 1 || touched_ == Touched::kNo) return started(std::move(store));
    // In place, the step that was interrupted took the last one with it: a new store.
    engine_.reset();
    std::filesystem::remove(paths_.file(0));
    if (options_.paths.size() > 1) std::filesystem::remove(paths_.file(1));
    create();
  }

  void started(Result<std::unique_ptr<StateStore>> store) {
    if (!store) return violate("does not open: " + to_string(store.error()));
    store_ = *std::move(store);
    working_.assign(objects_.size(), {});
    open_.assign(objects_.size(), Open::kNo);
    engine_->hold_others();
  }

  void take_one() {
    switch (pick(random_, 0, 9)) {
      case 0: return roll_back();
      case 1: return reopen();
      case 2:
      case 3: return commit();
      case 4: return advance();
      case 5: return read();
      default: return write(static_cast<std::uint32_t>(pick(random_, 0, objects_.size() - 1)));
    }
  }

  /// With two slots the store waits here; a model that is wrong about when makes the test hang.
  [[nodiscard]] bool must_wait(std::uint32_t object) const {
    if (options_.slots == 1) return committing_.has_value();
    return hooks_.reuse == SlotReuse::kAfterDurable && options_.slots == 2 && committing_ && !working_[object] &&
           open_[object] == Open::kNo && durable_.keys[object] && changed_in_commit_[object];
  }

  void write(std::uint32_t object) {
    if (must_wait(object)) finish_commit();
    const StoreId id(object);
    touched_ = Touched::kYes;
    const auto extent = store_->begin_write(id);
    if (!extent) return;  // the power failed, or a commit had
    // Few different keys: a step that is repeated after a crash often writes the very same bytes.
    const std::uint64_t key = (next_step() * 16 + object) * 4 + pick(random_, 0, 3) / 3;
    open_[object] = working_[object] ? Open::kRewriting : Open::kFirst;
    if (!testing::write_extent(*engine_, *extent, key)) return;
    if (pick(random_, 0, 7) == 0) return;  // stays open; a later write of the object ends it
    store_->end_write(id);
    working_[object] = key;
    open_[object] = Open::kNo;
  }

  void commit() {
    for (std::uint32_t i = 0; i < objects_.size(); ++i) {
      if (open_[i] == Open::kRewriting || (in_place() && open_[i] != Open::kNo)) return;
    }
    finish_commit();
    const std::uint64_t step = next_step();
    ModelGeneration next = durable_;
    ++next.generation;
    next.step = step;
    changed_in_commit_.assign(objects_.size(), false);
    for (std::size_t i = 0; i < objects_.size(); ++i) {
      if (!working_[i]) continue;
      next.keys[i] = working_[i];
      changed_in_commit_[i] = true;
    }
    if (!store_->commit(step, metadata_of(step))) return;
    working_.assign(objects_.size(), {});
    committing_ = next;
    commit_left_ = paths_of_commit();
  }

  [[nodiscard]] std::uint64_t paths_of_commit() const {
    std::uint64_t count = 0;
    for (const CommitStep step : hooks_.protocol.commit) {
      count += step == CommitStep::kFlushPaths ? options_.paths.size() : 1;
    }
    return count;
  }

  /// Lets the commit do some of its requests.
  void advance() {
    if (!committing_ || commit_left_ <= 1) return;
    const std::uint64_t count = pick(random_, 1, commit_left_ - 1);
    engine_->let_others(count);
    commit_left_ -= count;
  }

  void finish_commit() {
    if (!committing_) return;
    engine_->let_others(commit_left_);
    commit_left_ = 0;
    if (store_->wait_durable()) settle(*committing_);
  }

  void settle(const ModelGeneration& generation) {
    durable_ = generation;
    committing_.reset();
    touched_ = Touched::kNo;
  }

  void roll_back() {
    if (in_place()) return;
    if (!store_->roll_back()) return violate("roll_back is refused");
    working_.assign(objects_.size(), {});
    open_.assign(objects_.size(), Open::kNo);
  }

  void read() {
    const Keys& base = committing_ ? committing_->keys : durable_.keys;
    for (std::uint32_t i = 0; i < objects_.size(); ++i) {
      if (open_[i] == Open::kNo || (open_[i] == Open::kFirst && !in_place()))
        check_object(i, working_[i] ? working_[i] : base[i]);
    }
  }

  void reopen() {
    finish_commit();
    if (!engine_->powered()) return;
    store_.reset();
    open();
    if (store_) check_recovered(durable_);
  }

  void crash() {
    engine_->fail_power_after(0);
    // A commit that had done all its requests by then may have been acknowledged.
    (void)store_->wait_durable();
    const CommitRecord acknowledged = store_->durable();
    if (committing_ && acknowledged.generation == committing_->generation) settle(*committing_);
    if (acknowledged.generation != durable_.generation) return violate("acknowledged what the model did not commit");
    store_.reset();
    engine_.reset();
    disk_.crash(random_, static_cast<CrashDisk::Survival>(pick(random_, 0, 3)));
    open();
    if (!store_) return;
    const Generation found = store_->durable().generation;
    if (committing_ && found == committing_->generation) settle(*committing_);
    committing_.reset();
    check_recovered(durable_);
  }

  void check_recovered(const ModelGeneration& expected) {
    const CommitRecord found = store_->durable();
    if (found.generation != expected.generation) {
      return violate(fmt::format("generation {} instead of {}", found.generation, expected.generation));
    }
    const std::string metadata = expected.generation == 0 ? "" : metadata_of(expected.step);
    if (found.step != expected.step || found.metadata != metadata)
      return violate("step or metadata of another generation");
    for (std::uint32_t i = 0; i < objects_.size(); ++i) check_object(i, expected.keys[i]);
  }

  void check_object(std::uint32_t object, const std::optional<std::uint64_t>& key) {
    const auto extent = store_->newest(StoreId(object));
    if (extent.has_value() != key.has_value()) return violate(fmt::format("object {} appears or is gone", object));
    if (!extent || !engine_->powered()) return;
    if (!testing::extent_holds(*engine_, *extent, *key)) violate(fmt::format("other bytes in object {}", object));
  }

  [[nodiscard]] bool in_place() const { return options_.slots == 1; }
  [[nodiscard]] std::uint64_t next_step() const { return (committing_ ? committing_->step : durable_.step) + 1; }

  enum class Open : std::uint8_t { kNo, kFirst, kRewriting };
  enum class Touched : std::uint8_t { kNo, kYes };

  std::mt19937_64 random_;
  const StoreHooks hooks_;
  StorePaths paths_;
  StoreOptions options_;
  std::vector<StoreObject> objects_;
  CrashDisk disk_;
  std::unique_ptr<CrashEngine> engine_;
  std::unique_ptr<StateStore> store_;

  ModelGeneration durable_;
  std::optional<ModelGeneration> committing_;
  std::vector<bool> changed_in_commit_;
  std::uint64_t commit_left_ = 0;
  Keys working_;
  std::vector<Open> open_;
  Touched touched_ = Touched::kNo;  ///< written to since the last durable commit
  std::optional<std::string> violation_;
};

TEST_F(StoreCrashTest, EveryCrashLeavesTheLastDurableGenerationOrTheOneInCommit) {
  const std::uint64_t seed = testing::test_seed();
  for (std::uint64_t i = 0; i < 150; ++i) {
    const auto violation = Program(seed + i, {}).run(60);
    ASSERT_FALSE(violation) << *violation << " with STRATA_TEST_SEED=" << seed + i;
  }
}

/// Some program must lose data.
void expect_caught(const StoreHooks& hooks) {
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    if (Program(seed, hooks).run(60)) return;
  }
  ADD_FAILURE() << "no program noticed";
}

StoreHooks with_commit(std::vector<CommitStep> steps) {
  StoreHooks hooks;
  hooks.protocol.commit = std::move(steps);
  return hooks;
}

using enum CommitStep;

TEST_F(StoreMutationTest, WithoutTheFlushBeforeTheRoot) {
  expect_caught(with_commit({kWriteTable, kWriteRoot, kFlushRoot}));
}
TEST_F(StoreMutationTest, WithoutTheFlushAfterTheRoot) {
  expect_caught(with_commit({kWriteTable, kFlushPaths, kWriteRoot}));
}
TEST_F(StoreMutationTest, FlushOfTheFirstPathOnly) {
  expect_caught(with_commit({kWriteTable, kFlushRoot, kWriteRoot, kFlushRoot}));
}
TEST_F(StoreMutationTest, RootBeforeTheFlush) {
  expect_caught(with_commit({kWriteTable, kWriteRoot, kFlushPaths, kFlushRoot}));
}
TEST_F(StoreMutationTest, RootBeforeTheTable) {
  expect_caught(with_commit({kWriteRoot, kWriteTable, kFlushPaths, kFlushRoot}));
}
TEST_F(StoreMutationTest, TableAfterTheLastFlush) {
  expect_caught(with_commit({kFlushPaths, kWriteRoot, kFlushRoot, kWriteTable}));
}
TEST_F(StoreMutationTest, DirtyMarkWithoutItsFlush) {
  StoreHooks hooks;
  hooks.protocol.dirty_mark = StoreProtocol::DirtyMark::kUnflushed;
  expect_caught(hooks);
}
TEST_F(StoreMutationTest, SlotOfTheDurableGenerationFreedEarly) {
  StoreHooks hooks;
  hooks.reuse = SlotReuse::kBeforeDurable;
  expect_caught(hooks);
}

// The newer root's table has rotted, so an older generation was recovered. Its next step is repeated, bit for bit, and
// the new table reaches the disk alone: the old root must not make that visible.
TEST(StoreStaleRootTest, NamesNoTableThatARepeatedStepWrites) {
  StorePaths paths;
  const std::vector<StoreObject> objects = {{"a", Bytes(4096)}};
  CrashDisk disk;
  {
    CrashEngine engine(disk);
    auto store = StateStore::create(paths.options(), objects, engine).value();
    for (std::uint64_t step = 1; step <= 2; ++step) ASSERT_TRUE(testing::put_step(*store, engine, step));
  }
  const StoreLayout layout = plan_layout({objects, 2, {}, {}});
  {
    std::fstream file(paths.file(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(layout.generations[1].offset.value));
    file.write("rot", 3);
    ASSERT_TRUE(file.good());
  }
  {
    CrashEngine engine(disk);
    auto store = StateStore::open(paths.options(), objects, engine).value();
    ASSERT_EQ(store->durable().step, 1u);
    ASSERT_TRUE(testing::put(*store, engine, StoreId(0), 200));
    engine.hold_others();
    ASSERT_TRUE(store->commit(2, metadata_of(2)));
    engine.let_others(1);
    engine.fail_power_after(0);
  }
  std::mt19937_64 random(1);
  disk.crash(random, CrashDisk::Survival::kEverything);
  CrashEngine engine(disk);
  auto store = StateStore::open(paths.options(), objects, engine).value();
  EXPECT_EQ(store->durable().step, 1u);
}

}  // namespace
}  // namespace strata::tiers
