#include "io/file.hpp"

#include <cerrno>
#include <chrono>
#include <fstream>
#include <future>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/aligned_buffer.hpp"
#include "support/temp_dir.hpp"

namespace strata::io {
namespace {

using namespace literals;

class FileTest : public ::testing::Test {
 protected:
  File create(const char* name) {
    auto file = open_file(dir_.path() / name, {.creation = Creation::kMustNotExist});
    EXPECT_TRUE(file) << to_string(file.error());
    return file ? *std::move(file) : File();
  }
  static struct stat status_of(const File& file) {
    struct stat status {};
    EXPECT_EQ(::fstat(file.fd.get(), &status), 0);
    return status;
  }

  testing::TempDir dir_;
};

TEST_F(FileTest, AMissingFileIsAWrongPath) {
  const auto file = open_file(dir_.path() / "missing", {});
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::kUsage);
  EXPECT_EQ(file.error().os_errno, ENOENT);
  EXPECT_NE(file.error().message.find("missing"), std::string::npos);
  EXPECT_FALSE(file.error().hint.empty());
}

TEST_F(FileTest, AFolderIsNoFile) {
  for (const Access access : {Access::kRead, Access::kReadWrite}) {
    const auto file = open_file(dir_.path(), {.access = access});
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().os_errno, EISDIR);
  }
}

TEST_F(FileTest, AFileThatMustNotExistIsNotOverwritten) {
  std::ofstream(dir_.path() / "there") << "precious";
  const auto file = open_file(dir_.path() / "there", {.creation = Creation::kMustNotExist});
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().os_errno, EEXIST);
  EXPECT_EQ(std::filesystem::file_size(dir_.path() / "there"), 8u);
}

TEST_F(FileTest, AFolderThatMayNotBeWrittenIsAWrongPath) {
  const auto file = open_file("/proc/strata", {.creation = Creation::kMustNotExist});
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::kUsage);
}

TEST_F(FileTest, ClosesOnExecAndSaysWhatItIs) {
  const File file = create("flags");
  EXPECT_NE(::fcntl(file.fd.get(), F_GETFD) & FD_CLOEXEC, 0);
  const bool direct = (::fcntl(file.fd.get(), F_GETFL) & O_DIRECT) != 0;
  EXPECT_EQ(file.caching, direct ? Caching::kDirect : Caching::kBuffered);
  EXPECT_FALSE(file.file_system.empty());
  const auto buffered = open_file(dir_.path() / "flags", {.caching = Caching::kBuffered});
  ASSERT_TRUE(buffered);
  EXPECT_EQ(::fcntl(buffered->fd.get(), F_GETFL) & O_DIRECT, 0);
}

TEST_F(FileTest, ReadAccessCannotWrite) {
  create("read-only");
  const auto file = open_file(dir_.path() / "read-only", {.access = Access::kRead});
  ASSERT_TRUE(file);
  const testing::AlignedBuffer data(4096);
  EXPECT_EQ(::pwrite(file->fd.get(), data.data(), 4096, 0), -1);
}

TEST_F(FileTest, WhereDirectIoIsRefusedTheFileIsBuffered) {
  // /proc has no direct I/O on any kernel.
  const auto file = open_file("/proc/self/status", {.access = Access::kRead});
  ASSERT_TRUE(file) << to_string(file.error());
  EXPECT_EQ(file->caching, Caching::kBuffered);
}

TEST_F(FileTest, PreallocateRefusesMoreThanThereIs) {
  const File file = create("huge");
  const Status status = preallocate(file, Bytes(std::uint64_t{1} << 50));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kDoesNotFit);
  EXPECT_EQ(status.error().os_errno, ENOSPC);
  const std::string text = to_string(status.error());
  for (const char* part : {"huge", "free", "needs"}) EXPECT_NE(text.find(part), std::string::npos) << text;
  EXPECT_EQ(status_of(file).st_size, 0);
  EXPECT_EQ(status_of(file).st_blocks, 0);
}

TEST_F(FileTest, PreallocateGivesBlocksAndKeepsBytes) {
  const File file = create("allocated");
  ASSERT_TRUE(preallocate(file, 64_KiB));
  EXPECT_EQ(status_of(file).st_size, 64 << 10);
  EXPECT_GE(status_of(file).st_blocks * 512, 64 << 10);
  testing::AlignedBuffer data(4096);
  testing::fill_pattern(data.bytes(), 0, 1);
  ASSERT_EQ(::pwrite(file.fd.get(), data.data(), 4096, 0), 4096);
  ASSERT_TRUE(preallocate(file, 1_MiB));
  ASSERT_TRUE(preallocate(file, 64_KiB)) << "never shrinks";
  EXPECT_EQ(status_of(file).st_size, 1 << 20);
  const testing::AlignedBuffer back(4096);
  ASSERT_EQ(::pread(file.fd.get(), back.data(), 4096, 0), 4096);
  EXPECT_TRUE(testing::has_pattern(back.bytes(), 0, 1));
}

TEST_F(FileTest, PreallocateOfAReadOnlyFileFails) {
  create("frozen");
  const auto file = open_file(dir_.path() / "frozen", {.access = Access::kRead});
  ASSERT_TRUE(file);
  const Status status = preallocate(*file, 64_KiB);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
  EXPECT_EQ(status.error().os_errno, EBADF);
}

TEST_F(FileTest, ALockedFileIsInUse) {
  const File first = create("locked");
  ASSERT_TRUE(lock_exclusively(first, 0));
  const auto second = open_file(dir_.path() / "locked", {});
  ASSERT_TRUE(second);
  const Status status = lock_exclusively(*second, 0.03);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kStore);
  EXPECT_NE(status.error().message.find("locked"), std::string::npos);
  EXPECT_NE(status.error().message.find("in use"), std::string::npos);
}

TEST_F(FileTest, PatienceOutlastsALockThatIsGivenUp) {
  std::optional<File> first = create("waited");
  ASSERT_TRUE(lock_exclusively(*first, 0));
  const auto second = open_file(dir_.path() / "waited", {});
  ASSERT_TRUE(second);
  auto waiting = std::async(std::launch::async, [&] { return lock_exclusively(*second, 10); });
  EXPECT_EQ(waiting.wait_for(std::chrono::milliseconds(30)), std::future_status::timeout);
  first.reset();  // the descriptor is the lock
  EXPECT_TRUE(waiting.get());
}

TEST_F(FileTest, FreeSpaceOfAMissingPathIsAnError) {
  const auto missing = free_space(dir_.path() / "missing");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kUsage);
  const auto here = free_space(dir_.path());
  ASSERT_TRUE(here);
  EXPECT_GT(here->value, 0u);
}

}  // namespace
}  // namespace strata::io
