// The state store's contract, on a real engine.
#include <chrono>
#include <future>
#include <set>
#include <thread>

#include "support/crash_engine.hpp"
#include "support/store_data.hpp"
#include "tiers/state_store_impl.hpp"

namespace strata::tiers {
namespace {

using testing::CrashDisk;
using testing::CrashEngine;
using testing::expect_step;
using testing::extent_holds;
using testing::put;
using testing::put_step;
using testing::some_objects;
using testing::StorePaths;
using testing::threads_engine;

constexpr StoreId kFirst{0};
constexpr StoreId kSecond{1};

class StoreTest : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  StoreTest() {
    options_ = paths_.options();
    options_.slots = GetParam();
    engine_ = threads_engine();
  }
  void create() {
    auto store = StateStore::create(options_, objects_, *engine_);
    ASSERT_TRUE(store) << to_string(store.error());
    store_ = *std::move(store);
  }
  void reopen() {
    store_.reset();
    engine_ = threads_engine();
    auto store = StateStore::open(options_, objects_, *engine_);
    ASSERT_TRUE(store) << to_string(store.error());
    store_ = *std::move(store);
  }

  StorePaths paths_{2};
  StoreOptions options_;
  std::vector<StoreObject> objects_ = some_objects();
  std::unique_ptr<io::Engine> engine_;
  std::unique_ptr<StateStore> store_;
};

INSTANTIATE_TEST_SUITE_P(Slots, StoreTest, ::testing::Values(1u, 2u, 3u));

TEST_P(StoreTest, NewStoreHoldsNothing) {
  create();
  EXPECT_EQ(store_->durable().generation, 0u);
  for (std::uint32_t i = 0; i < objects_.size(); ++i) EXPECT_FALSE(store_->newest(StoreId(i)));
  reopen();
  EXPECT_EQ(store_->durable().generation, 0u);
  for (std::uint32_t i = 0; i < objects_.size(); ++i) EXPECT_FALSE(store_->newest(StoreId(i)));
}

TEST_P(StoreTest, CommittedStepsSurviveReopening) {
  create();
  for (std::uint64_t step = 1; step <= 5; ++step) ASSERT_TRUE(put_step(*store_, *engine_, step));
  reopen();
  EXPECT_EQ(store_->durable().generation, 5u);
  EXPECT_EQ(store_->durable().metadata, "{\"step\":5}");
  expect_step(*store_, *engine_, 5);
  ASSERT_TRUE(put_step(*store_, *engine_, 6));
  reopen();
  expect_step(*store_, *engine_, 6);
  EXPECT_EQ(store_->durable().generation, 6u);
}

TEST_P(StoreTest, ObjectsThatDidNotChangeStay) {
  create();
  ASSERT_TRUE(put_step(*store_, *engine_, 1));
  for (std::uint64_t step = 2; step <= 4; ++step) {
    ASSERT_TRUE(put(*store_, *engine_, kFirst, step));
    ASSERT_TRUE(store_->commit(step, {}));
    ASSERT_TRUE(store_->wait_durable());
  }
  reopen();
  EXPECT_TRUE(extent_holds(*engine_, *store_->newest(kFirst), 4));
  EXPECT_TRUE(extent_holds(*engine_, *store_->newest(kSecond), 101));
}

TEST_P(StoreTest, CommitWithoutChangesKeepsStepAndMetadata) {
  create();
  ASSERT_TRUE(store_->commit(7, "seven"));
  ASSERT_TRUE(store_->wait_durable());
  reopen();
  EXPECT_EQ(store_->durable().step, 7u);
  EXPECT_EQ(store_->durable().metadata, "seven");
}

TEST_P(StoreTest, NewestFollowsTheEndOfTheWrite) {
  create();
  ASSERT_TRUE(store_->begin_write(kFirst));
  EXPECT_FALSE(store_->newest(kFirst));
  store_->end_write(kFirst);
  EXPECT_TRUE(store_->newest(kFirst));
  EXPECT_FALSE(store_->newest(kSecond));
}

TEST_P(StoreTest, SecondBeginGivesTheSameSlotUntilTheCommit) {
  create();
  const Offset first = store_->begin_write(kFirst)->offset;
  EXPECT_EQ(store_->begin_write(kFirst)->offset, first);
  store_->end_write(kFirst);
  EXPECT_EQ(store_->begin_write(kFirst)->offset, first);
  store_->end_write(kFirst);
  ASSERT_TRUE(store_->commit(1, {}));
  ASSERT_TRUE(store_->wait_durable());
  EXPECT_EQ(store_->begin_write(kFirst)->offset == first, options_.slots == 1);
}

TEST_P(StoreTest, MetadataOfOneMebibyteFitsAndMoreIsRefused) {
  create();
  const std::string large(1u << 20, 'x');
  EXPECT_FALSE(store_->commit(1, large + "x"));
  ASSERT_TRUE(store_->commit(1, large));
  ASSERT_TRUE(store_->wait_durable());
  reopen();
  EXPECT_EQ(store_->durable().metadata, large);
}

TEST_P(StoreTest, CommitIsRefusedWhileAnEndedVersionIsOverwritten) {
  create();
  ASSERT_TRUE(put(*store_, *engine_, kFirst, 1));
  ASSERT_TRUE(store_->begin_write(kFirst));
  const Status refused = store_->commit(1, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInternal);
  store_->end_write(kFirst);
  EXPECT_TRUE(store_->commit(1, {}));
}

TEST_P(StoreTest, ExtentsAreAlignedAndDisjoint) {
  options_.scratch = Bytes(100'000);
  options_.largest_scratch = Bytes(8192);
  create();
  std::set<std::pair<std::uint32_t, std::uint64_t>> blocks;
  const auto add = [&](const DiskExtent& extent) {
    EXPECT_EQ(extent.offset.value % 4096, 0u);
    EXPECT_EQ(extent.bytes.value % 4096, 0u);
    for (std::uint64_t at = 0; at < extent.bytes.value; at += 4096) {
      EXPECT_TRUE(blocks.insert({extent.path.value, extent.offset.value + at}).second);
    }
  };
  for (std::uint64_t step = 1; step <= options_.slots; ++step) {
    for (std::uint32_t i = 0; i < objects_.size(); ++i) {
      const auto extent = store_->begin_write(StoreId(i));
      ASSERT_TRUE(extent);
      EXPECT_GE(extent->bytes, objects_[i].bytes);
      add(*extent);
      store_->end_write(StoreId(i));
    }
    ASSERT_TRUE(store_->commit(step, {}));
    ASSERT_TRUE(store_->wait_durable());
  }
  for (int i = 0; i < 12; ++i) add(store_->allocate_scratch(Bytes(8192)).value());
}

TEST_P(StoreTest, ScratchEndsWithAnError) {
  options_.scratch = Bytes(16384);
  options_.largest_scratch = Bytes(4096);
  create();
  std::uint64_t got = 0;
  Result<DiskExtent> piece = store_->allocate_scratch(Bytes(1));
  for (; piece; piece = store_->allocate_scratch(Bytes(1))) ++got;
  EXPECT_EQ(piece.error().code, ErrorCode::kDoesNotFit);
  EXPECT_EQ(got, 6u);  // 16 KiB, and one piece more on each of two paths
}

TEST_P(StoreTest, ScratchIsEmptyAgainAndMayGrowAfterReopening) {
  options_.scratch = Bytes(8192);
  create();
  ASSERT_TRUE(put_step(*store_, *engine_, 1));
  ASSERT_TRUE(store_->allocate_scratch(Bytes(4096)));
  options_.scratch = Bytes(1u << 20);
  reopen();
  for (int i = 0; i < 200; ++i) {
    const auto piece = store_->allocate_scratch(Bytes(4096));
    ASSERT_TRUE(piece);
    ASSERT_TRUE(testing::write_extent(*engine_, *piece, 9));
  }
  expect_step(*store_, *engine_, 1);
}

TEST_P(StoreTest, FootprintIsWhatTheFilesTake) {
  options_.scratch = Bytes(50'000);
  options_.largest_scratch = Bytes(7000);
  create();
  const Bytes footprint = StateStore::footprint(objects_, options_.slots, options_.scratch,
                                                {options_.paths.size(), options_.largest_scratch});
  std::uint64_t files = 0;
  for (std::size_t i = 0; i < options_.paths.size(); ++i) files += std::filesystem::file_size(paths_.file(i));
  EXPECT_EQ(files, footprint.value);
}

TEST_P(StoreTest, RemoveLeavesNothing) {
  create();
  EXPECT_FALSE(remove_store(options_));  // in use
  store_.reset();
  engine_.reset();
  ASSERT_TRUE(remove_store(options_));
  EXPECT_TRUE(paths_.empty());
  EXPECT_TRUE(remove_store(options_));
}

TEST(StoreEngineTest, WorksOnTheEngineThatRunsHere) {
  StorePaths paths(2);
  const auto best_engine = [] { return io::open_engine({.kind = io::EngineKind::kAuto, .report = {}}).value(); };
  auto engine = best_engine();
  auto store = StateStore::create(paths.options(), some_objects(), *engine).value();
  for (std::uint64_t step = 1; step <= 3; ++step) ASSERT_TRUE(put_step(*store, *engine, step));
  store.reset();
  engine = best_engine();
  store = StateStore::open(paths.options(), some_objects(), *engine).value();
  expect_step(*store, *engine, 3);
}

TEST(StoreRollbackTest, ReturnsToTheCommittedVersions) {
  StorePaths paths;
  auto engine = threads_engine();
  auto store = StateStore::create(paths.options(), some_objects(), *engine).value();
  ASSERT_TRUE(put_step(*store, *engine, 1));
  ASSERT_TRUE(put(*store, *engine, kFirst, 777));
  ASSERT_TRUE(store->begin_write(kSecond));
  ASSERT_TRUE(store->roll_back());
  expect_step(*store, *engine, 1);
  ASSERT_TRUE(put_step(*store, *engine, 2));
  expect_step(*store, *engine, 2);
}

TEST(StoreRollbackTest, IsRefusedInPlace) {
  StorePaths paths;
  auto engine = threads_engine();
  StoreOptions options = paths.options();
  options.slots = 1;
  auto store = StateStore::create(options, some_objects(), *engine).value();
  ASSERT_TRUE(put_step(*store, *engine, 1));
  const Status refused = store->roll_back();
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().hint.find("durable_steps"), std::string::npos);
}

/// A store on an engine whose commits the test holds back.
class HeldStoreTest : public ::testing::Test {
 protected:
  void create(std::uint32_t slots, std::size_t path_count = 1) {
    paths_ = std::make_unique<StorePaths>(path_count);
    StoreOptions options = paths_->options();
    options.slots = slots;
    store_ = StateStore::create(options, some_objects(), engine_).value();
  }
  ~HeldStoreTest() override { engine_.release_others(); }

  std::unique_ptr<StorePaths> paths_;
  CrashDisk disk_;
  CrashEngine engine_{disk_};
  std::unique_ptr<StateStore> store_;
};

TEST_F(HeldStoreTest, CommitWritesTableFlushesAllPathsWritesRootFlushesIt) {
  create(2, 3);
  const auto before = engine_.performed().size();
  ASSERT_TRUE(store_->commit(1, "m"));
  ASSERT_TRUE(store_->wait_durable());
  const auto all = engine_.performed();
  const std::vector commit(all.begin() + static_cast<std::ptrdiff_t>(before), all.end());
  ASSERT_EQ(commit.size(), 6u);
  EXPECT_EQ(commit[0].op, io::Op::kWrite);
  std::set<std::uint32_t> flushed;
  for (std::size_t i = 1; i <= 3; ++i) {
    EXPECT_EQ(commit[i].op, io::Op::kFlush);
    flushed.insert(commit[i].file);
  }
  EXPECT_EQ(flushed.size(), 3u);
  EXPECT_EQ(commit[4].op, io::Op::kWrite);
  EXPECT_EQ(commit[4].offset, 8192u);  // the second root: the first is that of generation 0
  EXPECT_EQ(commit[5].op, io::Op::kFlush);
  EXPECT_EQ(commit[5].file, 0u);
}

TEST_F(HeldStoreTest, RootsAndGenerationAreasAlternate) {
  create(2);
  std::vector<std::uint64_t> tables;
  std::vector<std::uint64_t> roots;
  for (std::uint64_t step = 1; step <= 4; ++step) {
    const auto before = engine_.performed().size();
    ASSERT_TRUE(store_->commit(step, {}));
    ASSERT_TRUE(store_->wait_durable());
    const auto all = engine_.performed();
    tables.push_back(all[before].offset);
    roots.push_back(all[before + 2].offset);
  }
  EXPECT_NE(tables[0], tables[1]);
  EXPECT_EQ(tables[0], tables[2]);
  EXPECT_EQ(tables[1], tables[3]);
  EXPECT_EQ(roots, (std::vector<std::uint64_t>{8192, 4096, 8192, 4096}));
}

TEST_F(HeldStoreTest, CommitReturnsAtOnceAndDurableFollows) {
  create(2);
  ASSERT_TRUE(put(*store_, engine_, kFirst, 1));
  engine_.hold_others();
  ASSERT_TRUE(store_->commit(1, {}));
  EXPECT_EQ(store_->durable().generation, 0u);
  EXPECT_TRUE(extent_holds(engine_, *store_->newest(kFirst), 1));
  engine_.release_others();
  ASSERT_TRUE(store_->wait_durable());
  EXPECT_EQ(store_->durable().generation, 1u);
}

TEST_F(HeldStoreTest, TwoSlotsWaitForTheCommitThatNeedsBoth) {
  create(2);
  ASSERT_TRUE(put_step(*store_, engine_, 1));
  ASSERT_TRUE(put(*store_, engine_, kFirst, 2));
  const Offset committing = store_->newest(kFirst)->offset;
  engine_.hold_others();
  ASSERT_TRUE(store_->commit(2, {}));
  ASSERT_TRUE(store_->begin_write(kSecond));  // not in this commit: its other slot is free
  auto waiting = std::async(std::launch::async, [&] { return store_->begin_write(kFirst); });
  EXPECT_EQ(waiting.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  engine_.release_others();
  const auto extent = waiting.get();
  ASSERT_TRUE(extent);
  EXPECT_NE(extent->offset, committing);
  EXPECT_EQ(store_->durable().step, 2u);
}

TEST_F(HeldStoreTest, ThreeSlotsDoNotWait) {
  create(3);
  ASSERT_TRUE(put_step(*store_, engine_, 1));
  const Offset durable = store_->newest(kFirst)->offset;
  ASSERT_TRUE(put(*store_, engine_, kFirst, 2));
  const Offset committing = store_->newest(kFirst)->offset;
  engine_.hold_others();
  ASSERT_TRUE(store_->commit(2, {}));
  const auto extent = store_->begin_write(kFirst);
  ASSERT_TRUE(extent);
  EXPECT_NE(extent->offset, durable);
  EXPECT_NE(extent->offset, committing);
}

TEST_F(HeldStoreTest, RollBackDuringACommitKeepsItsVersions) {
  create(3);
  ASSERT_TRUE(put_step(*store_, engine_, 1));
  ASSERT_TRUE(put(*store_, engine_, kFirst, 2));
  engine_.hold_others();
  ASSERT_TRUE(store_->commit(2, {}));
  ASSERT_TRUE(put(*store_, engine_, kFirst, 3));
  ASSERT_TRUE(store_->roll_back());
  EXPECT_TRUE(extent_holds(engine_, *store_->newest(kFirst), 2));
  engine_.release_others();
  ASSERT_TRUE(store_->wait_durable());
  EXPECT_TRUE(extent_holds(engine_, *store_->newest(kFirst), 2));
}

TEST_F(HeldStoreTest, InPlaceMarksOncePerStepBeforeTheFirstWrite) {
  create(1);
  const auto before = engine_.performed().size();
  ASSERT_TRUE(store_->begin_write(kFirst));
  ASSERT_TRUE(store_->begin_write(kSecond));
  auto all = engine_.performed();
  ASSERT_EQ(all.size(), before + 2);
  EXPECT_EQ(all[before].op, io::Op::kWrite);
  EXPECT_EQ(all[before + 1].op, io::Op::kFlush);
  store_->end_write(kFirst);
  EXPECT_FALSE(store_->commit(1, {}));  // the second is still being written, in place
  store_->end_write(kSecond);
  ASSERT_TRUE(store_->commit(1, {}));
  ASSERT_TRUE(store_->wait_durable());
  const auto after = engine_.performed().size();
  ASSERT_TRUE(store_->begin_write(kFirst));
  EXPECT_EQ(engine_.performed().size(), after + 2);
}

TEST_F(HeldStoreTest, InPlaceWaitsForTheCommitInFlight) {
  create(1);
  ASSERT_TRUE(put(*store_, engine_, kFirst, 1));
  engine_.hold_others();
  ASSERT_TRUE(store_->commit(1, {}));
  auto waiting = std::async(std::launch::async, [&] { return store_->begin_write(kSecond); });
  EXPECT_EQ(waiting.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  engine_.release_others();
  ASSERT_TRUE(waiting.get());
  EXPECT_EQ(store_->durable().step, 1u);
}

}  // namespace
}  // namespace strata::tiers
