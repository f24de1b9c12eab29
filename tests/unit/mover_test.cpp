#include "tiers/mover.hpp"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <semaphore>
#include <string>
#include <vector>

#include <fcntl.h>

#include <gtest/gtest.h>

#include "support/scripted_engine.hpp"

namespace strata::tiers {
namespace {

using namespace literals;

/// A file of two blocks, a host buffer, a staging buffer and a device.
class MoverTest : public ::testing::Test {
 protected:
  MoverTest()
      : device_(device::open_host_device({.memory = 64_KiB, .addressing = device::Addressing::kSeparate}).value()) {
    std::string path = (std::filesystem::temp_directory_path() / "strata-mover-XXXXXX").string();
    io::File file;
    file.fd = Fd(::mkostemp(path.data(), O_CLOEXEC));
    file.path = path;
    EXPECT_EQ(::unlink(path.c_str()), 0);
    EXPECT_EQ(::ftruncate(file.fd.get(), 8192), 0);
    disk_ = {
        .path = PathId(0), .file = engine_.attach(std::move(file)).value(), .offset = Offset(4096), .bytes = 4_KiB};
    for (std::size_t i = 0; i < host_.size(); ++i) host_[i] = static_cast<std::byte>(i * 7 >> 2);
  }

  /// Runs a transfer to its end and returns its error.
  std::optional<Error> run(Tier from, Tier to, std::byte* source, std::byte* destination, std::byte* staging) {
    Transfer transfer;
    std::binary_semaphore done{0};
    transfer.from = from;
    transfer.to = to;
    transfer.source = source;
    transfer.destination = destination;
    transfer.staging = staging;
    transfer.disk = disk_;
    transfer.length = 4_KiB;
    transfer.payload = 4000_B;
    transfer.context = &done;
    transfer.on_complete = [](Transfer& t) noexcept { static_cast<std::binary_semaphore*>(t.context)->release(); };
    mover_.start(transfer);
    done.acquire();
    return transfer.error;
  }

  std::uint64_t moved(Lane lane) { return mover_.totals().bytes[static_cast<std::size_t>(lane)]; }

  testing::ScriptedEngine engine_;
  std::unique_ptr<device::Device> device_;
  Mover mover_{*device_, &engine_};
  DiskExtent disk_;
  std::vector<std::byte> host_ = std::vector<std::byte>(4096);
  std::vector<std::byte> back_ = std::vector<std::byte>(4096);
  std::vector<std::byte> staging_ = std::vector<std::byte>(4096);
};

TEST_F(MoverTest, FailedLegEndsTheTransferAndCountsNothing) {
  engine_.fail_next(io::Op::kRead);
  std::memset(device_->arena(), 1, 4096);
  const auto error = run(Tier::kDisk, Tier::kDevice, nullptr, device_->arena(), staging_.data());
  ASSERT_TRUE(error);
  EXPECT_EQ(error->os_errno, EIO);
  EXPECT_EQ(device_->arena()[0], std::byte{1}) << "the second leg ran";
  engine_.fail_next(io::Op::kWrite);
  EXPECT_TRUE(run(Tier::kHost, Tier::kDisk, host_.data(), nullptr, nullptr));
  EXPECT_EQ(moved(Lane::kDiskRead), 0u);
  EXPECT_EQ(moved(Lane::kDiskWrite), 0u);
  EXPECT_EQ(moved(Lane::kHostToDevice), 0u);
}

TEST_F(MoverTest, EveryRouteCarriesTheBytes) {
  std::byte* const near = device_->arena() + 8192;
  EXPECT_FALSE(run(Tier::kHost, Tier::kDevice, host_.data(), near, nullptr));
  EXPECT_FALSE(run(Tier::kDevice, Tier::kDisk, near, nullptr, staging_.data()));
  std::memset(near, 0, 4096);
  std::memset(staging_.data(), 0, 4096);
  EXPECT_FALSE(run(Tier::kDisk, Tier::kDevice, nullptr, near, staging_.data()));
  EXPECT_FALSE(run(Tier::kDevice, Tier::kHost, near, back_.data(), nullptr));
  EXPECT_EQ(host_, back_);
  EXPECT_FALSE(run(Tier::kDisk, Tier::kHost, nullptr, staging_.data(), nullptr));
  EXPECT_EQ(host_, staging_);
  EXPECT_FALSE(run(Tier::kHost, Tier::kDisk, host_.data(), nullptr, nullptr));
  EXPECT_EQ(moved(Lane::kHostToDevice), 8000u) << "payload, without padding";
  EXPECT_EQ(moved(Lane::kDeviceToHost), 8000u);
  EXPECT_EQ(moved(Lane::kDiskRead), 8000u);
  EXPECT_EQ(moved(Lane::kDiskWrite), 8000u);
  for (std::size_t lane = 0; lane < kLaneCount; ++lane) EXPECT_GT(mover_.totals().busy_ns[lane], 0u) << lane;
}

TEST_F(MoverTest, BusyTimeRunsWhileATransferIsInFlight) {
  engine_.hold(io::Op::kWrite);
  Transfer transfer;
  std::binary_semaphore done{0};
  transfer.from = Tier::kHost;
  transfer.to = Tier::kDisk;
  transfer.source = host_.data();
  transfer.disk = disk_;
  transfer.length = transfer.payload = 4_KiB;
  transfer.context = &done;
  transfer.on_complete = [](Transfer& t) noexcept { static_cast<std::binary_semaphore*>(t.context)->release(); };
  mover_.start(transfer);
  const auto busy = [&] { return mover_.totals().busy_ns[static_cast<std::size_t>(Lane::kDiskWrite)]; };
  const std::uint64_t before = busy();
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  EXPECT_GE(busy(), before + 2'000'000);
  engine_.release(io::Op::kWrite);
  done.acquire();
  const std::uint64_t after = busy();
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(busy(), after);
}

TEST(MoverLaneTest, BottleneckIsTheDiskWhereItTakesPart) {
  EXPECT_EQ(Mover::bottleneck(Tier::kDisk, Tier::kDevice), Lane::kDiskRead);
  EXPECT_EQ(Mover::bottleneck(Tier::kDevice, Tier::kDisk), Lane::kDiskWrite);
  EXPECT_EQ(Mover::bottleneck(Tier::kHost, Tier::kDevice), Lane::kHostToDevice);
  EXPECT_EQ(Mover::bottleneck(Tier::kDevice, Tier::kHost), Lane::kDeviceToHost);
}

}  // namespace
}  // namespace strata::tiers
