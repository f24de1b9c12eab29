// The store on a disk that fails, fills up, or belongs to somebody else.
#include <fstream>

#include "support/crash_engine.hpp"
#include "support/seed.hpp"
#include "support/store_data.hpp"
#include "tiers/root_record.hpp"
#include "tiers/state_store_impl.hpp"
#include "tiers/store_header.hpp"
#include "tiers/store_layout.hpp"

namespace strata::tiers {
namespace {

using testing::CrashDisk;
using testing::CrashEngine;
using testing::expect_step;
using testing::put;
using testing::put_step;
using testing::some_objects;
using testing::StorePaths;
using testing::threads_engine;

Result<std::unique_ptr<StateStore>> open(const StoreOptions& options, const std::vector<StoreObject>& objects,
                                         std::unique_ptr<io::Engine>& engine) {
  engine = threads_engine();
  return StateStore::open(options, objects, *engine);
}

/// Opening must fail with these words, and with a hint.
void expect_refused(const StoreOptions& options, const std::vector<StoreObject>& objects, const std::string& words) {
  std::unique_ptr<io::Engine> engine;
  const auto store = open(options, objects, engine);
  ASSERT_FALSE(store) << "opened in spite of: " << words;
  EXPECT_EQ(store.error().code, ErrorCode::kStore);
  EXPECT_NE(store.error().message.find(words), std::string::npos) << to_string(store.error());
  EXPECT_FALSE(store.error().hint.empty());
}

void expect_opens_at(const StoreOptions& options, const std::vector<StoreObject>& objects, std::uint64_t step) {
  std::unique_ptr<io::Engine> engine;
  const auto store = open(options, objects, engine);
  ASSERT_TRUE(store) << to_string(store.error());
  expect_step(**store, *engine, step);
}

/// Makes a store of two steps, and lets go of it.
void make_store(const StoreOptions& options, const std::vector<StoreObject>& objects, std::uint64_t steps = 2) {
  auto engine = threads_engine();
  auto store = StateStore::create(options, objects, *engine);
  ASSERT_TRUE(store) << to_string(store.error());
  for (std::uint64_t step = 1; step <= steps; ++step) ASSERT_TRUE(put_step(**store, *engine, step));
}

void overwrite(const std::filesystem::path& file, std::uint64_t offset, std::span<const std::byte> bytes) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(static_cast<std::streamoff>(offset));
  stream.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(stream.good());
}

void flip(const std::filesystem::path& file, std::uint64_t offset) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(offset));
  const int old = stream.get();
  stream.seekp(static_cast<std::streamoff>(offset));
  stream.put(static_cast<char>(old ^ 0x10));
  ASSERT_TRUE(stream.good());
}

TEST(StoreRefusalTest, ObjectsThatDifferAreNamed) {
  StorePaths paths;
  make_store(paths.options(), some_objects());
  auto objects = some_objects();
  objects[1].name = "block.0/0/other";
  expect_refused(paths.options(), objects, "'block.0/0/parameter' as object 1");
  objects = some_objects();
  objects[2].bytes = Bytes(20'001);
  expect_refused(paths.options(), objects, "20000 bytes in 'block.0/0/optimizer/0', this model has 20001");
  objects = some_objects();
  objects.pop_back();
  expect_refused(paths.options(), objects, "object 'head/0/parameter', which this model lacks");
  objects = some_objects();
  objects.push_back({"head/1/parameter", Bytes(5)});
  expect_refused(paths.options(), objects, "lacks object 'head/1/parameter'");
  expect_opens_at(paths.options(), some_objects(), 2);
}

TEST(StoreRefusalTest, LongNamesAreToldApart) {
  StorePaths paths;
  const std::string prefix(300, 'n');
  const std::vector<StoreObject> objects = {{prefix + "a", Bytes(1)}, {prefix + "b", Bytes(1)}};
  make_store(paths.options(), objects);
  expect_refused(paths.options(), {{prefix + "a", Bytes(1)}, {prefix + "c", Bytes(1)}}, "as object 1");
  expect_opens_at(paths.options(), objects, 2);
}

TEST(StoreRefusalTest, MissingPathIsNamed) {
  StorePaths paths(2);
  make_store(paths.options(), some_objects());
  const auto aside = paths[1] / "aside";
  std::filesystem::rename(paths.file(1), aside);
  expect_refused(paths.options(), some_objects(), paths.file(1).string() + "' is missing");
  std::filesystem::rename(aside, paths.file(1));
  StoreOptions fewer = paths.options();
  fewer.paths.pop_back();
  expect_refused(fewer, some_objects(), "a run on 2 paths, not 1");
  StoreOptions swapped = paths.options();
  std::swap(swapped.paths[0], swapped.paths[1]);
  expect_refused(swapped, some_objects(), "is path 1 of its run, not 0");
  expect_opens_at(paths.options(), some_objects(), 2);
}

TEST(StoreRefusalTest, AnotherRunsFileIsRefused) {
  StorePaths paths;
  make_store(paths.options(), some_objects());
  StoreOptions other = paths.options();
  other.run_id = std::string(32, 'a');
  expect_refused(other, some_objects(), "is missing");
  std::filesystem::rename(paths.file().parent_path(), data_file(paths[0], other.run_id).parent_path());
  expect_refused(other, some_objects(), "belongs to run " + testing::kRunId);
}

TEST(StoreRefusalTest, OtherNumberOfSlotsIsRefused) {
  StorePaths paths;
  make_store(paths.options(), some_objects());
  StoreOptions options = paths.options();
  options.slots = 3;
  expect_refused(options, some_objects(), "2 slots per object, not 3");
}

TEST(StoreRefusalTest, UnknownVersionIsNamedByNumber) {
  StorePaths paths;
  make_store(paths.options(), some_objects());
  const std::uint32_t version = 7;
  overwrite(paths.file(), 8, std::as_bytes(std::span(&version, 1)));
  expect_refused(paths.options(), some_objects(), "format version 7, this program reads 1");
}

TEST(StoreRefusalTest, OtherFilesAreNoStore) {
  StorePaths paths;
  make_store(paths.options(), some_objects());
  overwrite(paths.file(), 0, std::as_bytes(std::span("PK\3\4", 4)));
  expect_refused(paths.options(), some_objects(), "is no data file of a state store");
  const std::vector<std::byte> zeros(4096);
  overwrite(paths.file(), 0, zeros);
  expect_refused(paths.options(), some_objects(), "was never finished");
}

TEST(StoreRefusalTest, TruncatedAnywhereIsRefused) {
  StorePaths paths;
  make_store(paths.options(), some_objects());
  for (std::uint64_t size = std::filesystem::file_size(paths.file()); size > 0;) {
    size = size > 65536 ? size - 40960 : size - 4096;
    std::filesystem::resize_file(paths.file(), size);
    expect_refused(paths.options(), some_objects(), "is cut short");
  }
}

TEST(StoreRefusalTest, FileOfALiveProcessIsLocked) {
  StorePaths paths;
  auto engine = threads_engine();
  auto store = StateStore::create(paths.options(), some_objects(), *engine).value();
  expect_refused(paths.options(), some_objects(), "in use");
}

TEST(StoreRefusalTest, OneDamagedRootFallsBackAndTwoAreRefused) {
  StorePaths paths;
  make_store(paths.options(), some_objects(), 3);  // roots: step 2 first, step 3 second
  const StoreLayout layout = plan_layout({some_objects(), 2, {}, {}});
  flip(paths.file(), layout.roots[1].value + 100);
  {
    std::unique_ptr<io::Engine> engine;
    const auto store = open(paths.options(), some_objects(), engine);
    ASSERT_TRUE(store) << to_string(store.error());
    EXPECT_EQ((*store)->durable().step, 2u);
  }
  flip(paths.file(), layout.roots[0].value + 100);
  expect_refused(paths.options(), some_objects(), "root 0: root is damaged; root 1: root is damaged");
}

TEST(StoreRefusalTest, DamagedTableOrMetadataIsNoticed) {
  StorePaths paths;
  make_store(paths.options(), some_objects(), 2);
  const StoreLayout layout = plan_layout({some_objects(), 2, {}, {}});
  const std::uint64_t newer = layout.generations[1].offset.value;  // steps 1 and 2 use areas 0 and 1
  flip(paths.file(), newer + 40);
  {
    std::unique_ptr<io::Engine> engine;
    const auto store = open(paths.options(), some_objects(), engine);
    ASSERT_TRUE(store) << to_string(store.error());
    EXPECT_EQ((*store)->durable().step, 1u);
  }
  flip(paths.file(), layout.generations[0].offset.value + 4096 + 2);
  expect_refused(paths.options(), some_objects(), "metadata is damaged");
}

TEST(StoreRefusalTest, DamagedDirectoryOrHeaderIsNoticed) {
  StorePaths paths;
  make_store(paths.options(), some_objects());
  const StoreLayout layout = plan_layout({some_objects(), 2, {}, {}});
  flip(paths.file(), layout.directory.offset.value + 300);
  expect_refused(paths.options(), some_objects(), "damaged directory");
  flip(paths.file(), layout.directory.offset.value + 300);
  flip(paths.file(), 70);
  expect_refused(paths.options(), some_objects(), "damaged header");
  flip(paths.file(), 70);
  expect_opens_at(paths.options(), some_objects(), 2);
}

TEST(StoreRefusalTest, DirtyInPlaceStoreIsRefusedOnceSomethingWasCommitted) {
  StorePaths paths;
  StoreOptions options = paths.options();
  options.slots = 1;
  {
    auto engine = threads_engine();
    auto store = StateStore::create(options, some_objects(), *engine).value();
    ASSERT_TRUE(put(*store, *engine, StoreId(0), 1));
  }
  {
    // Dirty, but nothing was promised yet.
    std::unique_ptr<io::Engine> engine;
    auto store = open(options, some_objects(), engine);
    ASSERT_TRUE(store) << to_string(store.error());
    EXPECT_FALSE((*store)->newest(StoreId(0)));
    ASSERT_TRUE(put_step(**store, *engine, 4));
  }
  {
    std::unique_ptr<io::Engine> engine;
    auto store = open(options, some_objects(), engine);
    ASSERT_TRUE(store) << to_string(store.error());
    expect_step(**store, *engine, 4);
    ASSERT_TRUE((*store)->begin_write(StoreId(0)));
  }
  expect_refused(options, some_objects(), "updated in place when the run stopped; step 4 is lost");
}

TEST(StoreRefusalTest, OptionsThatNoStoreCanHave) {
  StorePaths paths;
  auto engine = threads_engine();
  const auto refused = [&](const StoreOptions& options) {
    const auto store = StateStore::create(options, some_objects(), *engine);
    return !store && store.error().code == ErrorCode::kUsage && paths.empty();
  };
  StoreOptions options = paths.options();
  options.run_id = "../../../../../../../../etc/passwd";
  EXPECT_TRUE(refused(options));
  options = paths.options();
  options.paths.clear();
  EXPECT_TRUE(refused(options));
  options = paths.options();
  options.slots = 0;
  EXPECT_TRUE(refused(options));
  options = paths.options();
  options.paths.push_back(paths[0] / "missing");
  EXPECT_TRUE(refused(options));
  const std::vector<StoreObject> twice = {{"a", Bytes(1)}, {"a", Bytes(1)}};
  EXPECT_FALSE(StateStore::create(paths.options(), twice, *engine));
  EXPECT_TRUE(paths.empty());
}

TEST(StoreCreateFaultTest, FullDiskLeavesNothing) {
  StorePaths paths(2);
  auto engine = threads_engine();
  StoreOptions options = paths.options();
  options.scratch = Bytes(1ull << 50);
  const auto store = StateStore::create(options, some_objects(), *engine);
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().os_errno, ENOSPC);
  EXPECT_TRUE(paths.empty());
}

TEST(StoreCreateFaultTest, AnEarlierRunIsLeftAlone) {
  StorePaths paths(2);
  make_store(paths.options(), some_objects());
  auto engine = threads_engine();
  EXPECT_FALSE(StateStore::create(paths.options(), some_objects(), *engine));
  expect_opens_at(paths.options(), some_objects(), 2);
  // Only the second path has it: the first must not keep what the attempt began.
  std::filesystem::remove_all(paths.file(0).parent_path());
  EXPECT_FALSE(StateStore::create(paths.options(), some_objects(), *engine));
  EXPECT_TRUE(std::filesystem::is_empty(paths[0]));
  EXPECT_TRUE(std::filesystem::exists(paths.file(1)));
}

TEST(StoreCreateFaultTest, AnyFailedWriteOrFlushLeavesNothing) {
  for (std::uint64_t failing = 0;; ++failing) {
    StorePaths paths(2);
    CrashDisk disk;
    CrashEngine engine(disk);
    engine.fail_once_after(failing);
    const auto store = StateStore::create(paths.options(), some_objects(), engine);
    if (store) {
      EXPECT_GT(failing, 5u);
      break;
    }
    EXPECT_EQ(store.error().os_errno, EIO);
    EXPECT_TRUE(paths.empty());
  }
}

TEST(StoreCommitFaultTest, AnyFailedWriteOrFlushStopsCommitsForGood) {
  constexpr std::uint64_t kOperations = 5;  // table, flush of two paths, root, flush
  for (std::uint64_t failing = 0; failing <= kOperations; ++failing) {
    StorePaths paths(2);
    CrashDisk disk;
    {
      CrashEngine engine(disk);
      auto store = StateStore::create(paths.options(), some_objects(), engine).value();
      ASSERT_TRUE(put_step(*store, engine, 1));
      ASSERT_TRUE(put(*store, engine, StoreId(0), 200));
      engine.fail_once_after(failing);
      ASSERT_TRUE(store->commit(2, {}));
      const Status done = store->wait_durable();
      EXPECT_EQ(done.has_value(), failing == kOperations);
      if (done) break;
      EXPECT_NE(done.error().message.find("commit of step 2 failed"), std::string::npos);
      EXPECT_EQ(done.error().os_errno, EIO);
      EXPECT_EQ(store->durable().step, 1u);
      const Status again = store->commit(3, {});
      ASSERT_FALSE(again);
      EXPECT_EQ(again.error().message, done.error().message);
      EXPECT_FALSE(store->begin_write(StoreId(0)));
      EXPECT_FALSE(store->begin_write(StoreId(1)));
    }
    std::unique_ptr<io::Engine> engine;
    const auto store = open(paths.options(), some_objects(), engine);
    ASSERT_TRUE(store) << to_string(store.error());
    const bool root_was_written = failing == kOperations - 1;
    EXPECT_EQ((*store)->durable().step, root_was_written ? 2u : 1u);
  }
}

TEST(StoreCommitFaultTest, FailedMarkStopsAnInPlaceStore) {
  for (std::uint64_t failing = 0; failing < 2; ++failing) {
    StorePaths paths;
    StoreOptions options = paths.options();
    options.slots = 1;
    CrashDisk disk;
    CrashEngine engine(disk);
    auto store = StateStore::create(options, some_objects(), engine).value();
    ASSERT_TRUE(put_step(*store, engine, 1));
    engine.fail_once_after(failing);
    EXPECT_FALSE(store->begin_write(StoreId(0)));
    EXPECT_FALSE(store->begin_write(StoreId(0)));
    EXPECT_FALSE(store->commit(2, {}));
    EXPECT_FALSE(store->wait_durable());
  }
}

// Whatever rots in what the store reads of itself: it opens at a step that was committed, or says why not.
TEST(StoreRotTest, FlippedBitsNeverMisleadTheOpening) {
  StorePaths paths;
  const auto objects = some_objects();
  make_store(paths.options(), objects, 3);
  const StoreLayout layout = plan_layout({objects, 2, {}, {}});
  std::mt19937_64 random(testing::test_seed());
  for (int i = 0; i < 150; ++i) {
    const std::uint64_t region[] = {0,
                                    layout.roots[0].value,
                                    layout.roots[1].value,
                                    layout.directory.offset.value,
                                    layout.generations[0].offset.value,
                                    layout.generations[1].offset.value};
    const std::uint64_t offset = region[random() % std::size(region)] + random() % 128;
    flip(paths.file(), offset);
    {
      std::unique_ptr<io::Engine> engine;
      const auto store = open(paths.options(), objects, engine);
      if (store) {
        const auto step = (*store)->durable().step;
        EXPECT_TRUE(step == 2 || step == 3) << "after a flip at " << offset;
        EXPECT_EQ((*store)->durable().metadata, "{\"step\":" + std::to_string(step) + "}");
      } else {
        EXPECT_EQ(store.error().code, ErrorCode::kStore) << to_string(store.error());
      }
    }
    flip(paths.file(), offset);
  }
  expect_opens_at(paths.options(), objects, 3);
}

}  // namespace
}  // namespace strata::tiers
