// Faults of the disk and of the kernel, on the engines that drive real files. Results are replaced on their way from
// the kernel to the engine where the real fault can't be had everywhere.
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "io/engine.hpp"
#include "io/threads_engine.hpp"
#include "io/transfer_progress.hpp"
#include "io/uring_engine.hpp"
#include "support/aligned_buffer.hpp"
#include "support/seed.hpp"
#include "support/temp_dir.hpp"

namespace strata::io {
namespace {

using namespace literals;
using strata::testing::AlignedBuffer;
using strata::testing::fill_pattern;
using strata::testing::has_pattern;

class IoEngineFaultTest : public ::testing::TestWithParam<EngineKind> {
 protected:
  void SetUp() override { open({}); }

  void open(ResultFilter filter, EngineOptions options = {.queue_depth = 4, .block_size = 64_KiB, .threads = 4}) {
    engine_.reset();
    auto opened = GetParam() == EngineKind::kUring ? open_uring_engine(options, std::move(filter))
                                                   : open_threads_engine(options, std::move(filter));
    if (!opened) GTEST_SKIP() << to_string(opened.error());
    engine_ = *std::move(opened);
  }

  FileId file(const char* name, Bytes size) {
    auto made = open_file(dir_.path() / name, {.creation = Creation::kMustNotExist});
    EXPECT_TRUE(made) << to_string(made.error());
    EXPECT_TRUE(preallocate(*made, size));
    return *engine_->attach(*std::move(made));
  }
  Status move(Op op, FileId id, std::uint64_t offset, const AlignedBuffer& data) {
    return transfer(*engine_, op, id, Offset(offset), data.data(), Bytes(data.size()));
  }

  testing::TempDir dir_;
  std::unique_ptr<Engine> engine_;
};

void expect_names(const Error& error, std::initializer_list<const char*> parts) {
  const std::string text = to_string(error);
  for (const char* part : parts) EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' in: " << text;
}

TEST_P(IoEngineFaultTest, ShortTransfersAndInterruptsLoseNothing) {
  const auto seed = strata::testing::test_seed();
  auto random = std::make_shared<std::mt19937_64>(seed);
  auto mutex = std::make_shared<std::mutex>();
  open([random, mutex](const Block& block, std::int64_t result) -> std::int64_t {
    const std::lock_guard lock(*mutex);
    if (result <= 0) return result;
    switch (strata::testing::pick(*random, 0, 3)) {
      case 0: return -EINTR;
      case 1: return -EAGAIN;
      case 2: return static_cast<std::int64_t>(strata::testing::pick(*random, 1, block.length));
      default: return result;
    }
  });
  if (!engine_) return;
  const FileId id = file("shorts", 2_MiB);
  AlignedBuffer out(2u << 20);
  fill_pattern(out.bytes(), 0, 7);
  ASSERT_TRUE(move(Op::kWrite, id, 0, out));
  const AlignedBuffer back(2u << 20);
  ASSERT_TRUE(move(Op::kRead, id, 0, back));
  EXPECT_TRUE(has_pattern(back.bytes(), 0, 7));
  EXPECT_GT(engine_->stats().short_transfers, 0u);
  EXPECT_GT(engine_->stats().retries, 0u);
  EXPECT_EQ(engine_->stats().errors, 0u);
  EXPECT_EQ(engine_->stats().read_bytes, 2u << 20);
}

TEST_P(IoEngineFaultTest, EndlessInterruptsBecomeAnError) {
  open([](const Block&, std::int64_t) -> std::int64_t { return -EAGAIN; });
  if (!engine_) return;
  const FileId id = file("endless", 64_KiB);
  const AlignedBuffer data(4096);
  const Status status = move(Op::kRead, id, 4096, data);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().os_errno, EAGAIN);
  expect_names(status.error(), {"read", "4096 bytes", "offset 4096", "endless"});
  EXPECT_EQ(engine_->stats().retries, kMaxRetries);
}

TEST_P(IoEngineFaultTest, AnErrorReachesTheOwnerOfTheBytesAndNobodyElse) {
  open([](const Block& block, std::int64_t result) -> std::int64_t {
    return block.file_offset() == (512u << 10) ? -EIO : result;
  });
  if (!engine_) return;
  const FileId id = file("bad-block", 2_MiB);
  std::vector<std::unique_ptr<AlignedBuffer>> buffers;
  std::vector<Request> requests(8);
  for (std::uint64_t i = 0; i < requests.size(); ++i) {
    buffers.push_back(std::make_unique<AlignedBuffer>(256u << 10));
    requests[i].op = i % 2 == 0 ? Op::kWrite : Op::kRead;
    requests[i].file = id;
    requests[i].offset = Offset(i * (256u << 10));
    requests[i].data = buffers[i]->data();
    requests[i].length = Bytes(256u << 10);
    engine_->submit(requests[i]);
  }
  for (std::uint64_t i = 0; i < requests.size(); ++i) {
    const Status status = wait(requests[i]);
    EXPECT_EQ(status.has_value(), i != 2) << i;
    EXPECT_EQ(requests[i].blocks_in_flight, 0u);
  }
  expect_names(*requests[2].error, {"write", "65536 bytes", "offset 524288", "bad-block", "Input/output error"});
  EXPECT_EQ(engine_->stats().errors, 1u);
  EXPECT_EQ(engine_->stats().requests, 8u);
}

TEST_P(IoEngineFaultTest, AFullDiskNamesTheFreeSpace) {
  open([](const Block&, std::int64_t) -> std::int64_t { return -ENOSPC; });
  if (!engine_) return;
  const FileId id = file("full", 64_KiB);
  const AlignedBuffer data(4096);
  const Status status = move(Op::kWrite, id, 0, data);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().os_errno, ENOSPC);
  expect_names(status.error(), {"full", "free)", "No space left on device"});
}

TEST_P(IoEngineFaultTest, AFailedFlushIsAnError) {
  open([](const Block& block, std::int64_t result) { return block.request->op == Op::kFlush ? -EIO : result; });
  if (!engine_) return;
  const FileId id = file("flush", 64_KiB);
  const AlignedBuffer data(4096);
  ASSERT_TRUE(move(Op::kWrite, id, 0, data));
  const Status status = transfer(*engine_, Op::kFlush, id, Offset(0), nullptr, Bytes(0));
  ASSERT_FALSE(status);
  expect_names(status.error(), {"cannot flush", "flush", "Input/output error"});
}

TEST_P(IoEngineFaultTest, AClosedDescriptorFailsEveryOperation) {
  if (!engine_) return;
  const FileId id =
      *engine_->attach({.fd = {}, .path = "never-opened", .caching = Caching::kDirect, .file_system = {}});
  const AlignedBuffer data(4096);
  for (const Op op : {Op::kRead, Op::kWrite, Op::kFlush}) {
    const Status status = move(op, id, 0, data);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().os_errno, EBADF);
    expect_names(status.error(), {"never-opened"});
  }
}

TEST_P(IoEngineFaultTest, AReadOnlyFileRefusesWrites) {
  if (!engine_) return;
  (void)file("read-only", 64_KiB);
  auto opened = open_file(dir_.path() / "read-only", {.access = Access::kRead});
  ASSERT_TRUE(opened);
  const FileId id = *engine_->attach(*std::move(opened));
  const AlignedBuffer data(4096);
  EXPECT_TRUE(move(Op::kRead, id, 0, data));
  const Status status = move(Op::kWrite, id, 0, data);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().os_errno, EBADF);
}

TEST_P(IoEngineFaultTest, AnAlignmentThatTheDiskDoesNotTakeHasAHint) {
  open([](const Block&, std::int64_t) -> std::int64_t { return -EINVAL; });
  if (!engine_) return;
  const FileId id = file("aligned", 64_KiB);
  const AlignedBuffer data(4096);
  const Status status = move(Op::kRead, id, 0, data);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().os_errno, EINVAL);
  EXPECT_NE(status.error().hint.find("alignment"), std::string::npos);
}

TEST_P(IoEngineFaultTest, ASlowRequestIsReportedOnce) {
  std::mutex mutex;
  std::vector<std::string> lines;
  std::atomic<bool> slow = true;
  const EngineOptions options{
      .queue_depth = 1, .block_size = 64_KiB, .threads = 2, .slow_after_s = 0.02, .report = [&](std::string_view line) {
        const std::lock_guard lock(mutex);
        lines.emplace_back(line);
      }};
  // io_uring: a pipe that nobody writes to. Threads: the thread that serves the request is held.
  open(GetParam() == EngineKind::kUring ? ResultFilter{} : [&](const Block&, std::int64_t result) {
    while (slow) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return result;
  }, options);
  if (!engine_) return;
  int pipe_ends[2] = {-1, -1};
  ASSERT_EQ(::pipe2(pipe_ends, O_CLOEXEC), 0);
  const Fd write_end(pipe_ends[1]);
  Fd read_end(pipe_ends[0]);
  const FileId id =
      GetParam() == EngineKind::kUring
          ? *engine_->attach({.fd = std::move(read_end), .path = "slow-file", .caching = {}, .file_system = {}})
          : file("slow-file", 64_KiB);
  const AlignedBuffer data(4096);
  Request request;
  request.file = id;
  request.data = data.data();
  request.length = Bytes(4096);
  engine_->submit(request);
  std::this_thread::sleep_for(std::chrono::milliseconds(120));
  slow = false;
  const AlignedBuffer late(4096);
  ASSERT_EQ(::write(write_end.get(), late.data(), 4096), 4096);
  EXPECT_TRUE(wait(request));
  engine_.reset();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("slow-file"), std::string::npos) << lines[0];
  EXPECT_NE(lines[0].find("4.00 KiB"), std::string::npos) << lines[0];
}

/// A small ext4 in a file. Needs root.
class SmallDisk {
 public:
  explicit SmallDisk(const std::filesystem::path& dir) : mount_point_(dir / "small") {
    std::filesystem::create_directory(mount_point_);
    const std::string image = (dir / "image").string();
    const std::string make = fmt::format(
        "truncate -s 16M '{0}' && mkfs.ext4 -q -m 0 '{0}' && mount -o loop '{0}' '{1}'", image, mount_point_.string());
    mounted_ = ::geteuid() == 0 && std::system(("( " + make + " ) >/dev/null 2>&1").c_str()) == 0;
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  ~SmallDisk() {
    if (mounted_ && std::system(fmt::format("umount '{}'", mount_point_.string()).c_str()) != 0) {
      ADD_FAILURE() << mount_point_ << " is still mounted";
    }
  }
  [[nodiscard]] bool mounted() const { return mounted_; }
  [[nodiscard]] const std::filesystem::path& path() const { return mount_point_; }

 private:
  std::filesystem::path mount_point_;
  bool mounted_ = false;
};

TEST_P(IoEngineFaultTest, ADiskThatReallyFillsUpSaysSoAndStaysUsable) {
  if (!engine_) return;
  const SmallDisk disk(dir_.path());
  if (!disk.mounted()) GTEST_SKIP() << "no loop-mounted ext4 here (needs root and mkfs.ext4)";
  auto refused = open_file(disk.path() / "refused", {.creation = Creation::kMustNotExist});
  ASSERT_TRUE(refused) << to_string(refused.error());
  const Status status = preallocate(*refused, 64_MiB);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kDoesNotFit);
  auto sparse = open_file(disk.path() / "sparse", {.creation = Creation::kMustNotExist});
  ASSERT_TRUE(sparse);
  const FileId id = *engine_->attach(*std::move(sparse));
  AlignedBuffer data(32u << 20);
  fill_pattern(data.bytes(), 0, 3);
  const Status full = move(Op::kWrite, id, 0, data);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().os_errno, ENOSPC);
  expect_names(full.error(), {"sparse", "free)", "No space left on device"});
  const AlignedBuffer back(1u << 20);
  ASSERT_TRUE(move(Op::kRead, id, 0, back));
  EXPECT_TRUE(has_pattern(back.bytes(), 0, 3));
  engine_.reset();  // closes the file before the disk is unmounted
  refused = fail(ErrorCode::kInternal, "closed");
}

INSTANTIATE_TEST_SUITE_P(Engines, IoEngineFaultTest, ::testing::Values(EngineKind::kUring, EngineKind::kThreads),
                         [](const ::testing::TestParamInfo<EngineKind>& tested) {
                           return tested.param == EngineKind::kUring ? "uring" : "threads";
                         });

}  // namespace
}  // namespace strata::io
