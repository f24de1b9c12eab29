// What every device must do. A backend instantiates DeviceSuite with the way to open it.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "device/device.hpp"

namespace strata::device {

struct DeviceCase {
  std::string name;
  std::function<Result<std::unique_ptr<Device>>(Bytes memory)> open;
};

class DeviceSuite : public ::testing::TestWithParam<DeviceCase> {
 protected:
  static constexpr Bytes kMemory{4u << 20};

  void SetUp() override {
    auto opened = GetParam().open(kMemory);
    ASSERT_TRUE(opened) << to_string(opened.error());
    device_ = *std::move(opened);
  }

  std::unique_ptr<Device> device_;
};

inline void describe(Copy& copy, CopyLane lane, std::byte* destination, const std::byte* source, Bytes length) {
  copy.lane = lane;
  copy.destination = destination;
  copy.source = source;
  copy.length = length;
}

TEST_P(DeviceSuite, ArenaHasExactlyTheSizeAndAlignment) {
  EXPECT_EQ(device_->arena_size(), kMemory);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(device_->arena()) % (2u << 20), 0u);
  EXPECT_FALSE(device_->description().empty());
}

TEST_P(DeviceSuite, BytesSurviveTheRoundTrip) {
  std::vector<std::byte> out(1u << 20);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i * 31 >> 3);
  std::vector<std::byte> back(out.size());
  Copy down;
  describe(down, CopyLane::kHostToDevice, device_->arena() + 4096, out.data(), Bytes(out.size()));
  device_->submit(down);
  wait(down);
  Copy up;
  describe(up, CopyLane::kDeviceToHost, back.data(), device_->arena() + 4096, Bytes(back.size()));
  device_->submit(up);
  wait(up);
  EXPECT_EQ(out, back);
  device_->submit(up);  // a finished copy can be used again
  wait(up);
  EXPECT_EQ(up.state.load(), CopyState::kDone);
}

TEST_P(DeviceSuite, CopiesOfOneLaneCompleteInOrder) {
  static constexpr int kCopies = 200;
  std::vector<std::byte> source(4096);
  std::vector<Copy> copies(kCopies);
  std::vector<Copy*> order;  // written by the lane's thread only
  order.reserve(kCopies);
  for (Copy& copy : copies) {
    describe(copy, CopyLane::kHostToDevice, device_->arena(), source.data(), Bytes(source.size()));
    copy.context = &order;
    copy.on_complete = [](Copy& done) noexcept { static_cast<std::vector<Copy*>*>(done.context)->push_back(&done); };
    device_->submit(copy);
  }
  Copy last;
  describe(last, CopyLane::kHostToDevice, device_->arena(), source.data(), Bytes(64));
  device_->submit(last);
  wait(last);
  ASSERT_EQ(order.size(), copies.size());
  for (std::size_t i = 0; i < order.size(); ++i) EXPECT_EQ(order[i], &copies[i]);
}

TEST_P(DeviceSuite, CallbackMaySubmitTheNextCopy) {
  struct Chain {
    Device* device = nullptr;
    std::vector<std::byte> bytes = std::vector<std::byte>(4096, std::byte{7});
    std::vector<std::byte> back = std::vector<std::byte>(4096);
    Copy down;
    Copy up;
  } chain;
  chain.device = device_.get();
  describe(chain.down, CopyLane::kHostToDevice, device_->arena(), chain.bytes.data(), Bytes(4096));
  describe(chain.up, CopyLane::kDeviceToHost, chain.back.data(), device_->arena(), Bytes(4096));
  std::atomic<bool> done{false};
  chain.up.context = &done;
  chain.up.on_complete = [](Copy& copy) noexcept { static_cast<std::atomic<bool>*>(copy.context)->store(true); };
  chain.down.context = &chain;
  chain.down.on_complete = [](Copy& copy) noexcept {
    auto& self = *static_cast<Chain*>(copy.context);
    self.device->submit(self.up);
  };
  device_->submit(chain.down);
  while (!done.load()) std::this_thread::yield();
  EXPECT_EQ(chain.bytes, chain.back);
}

TEST_P(DeviceSuite, DestructorWaitsForWhatIsQueued) {
  std::vector<std::byte> source(1u << 20);
  std::vector<Copy> copies(8);
  std::atomic<int> completed{0};
  for (Copy& copy : copies) {
    describe(copy, CopyLane::kHostToDevice, device_->arena(), source.data(), Bytes(source.size()));
    copy.context = &completed;
    copy.on_complete = [](Copy& done) noexcept { static_cast<std::atomic<int>*>(done.context)->fetch_add(1); };
    device_->submit(copy);
  }
  device_.reset();
  EXPECT_EQ(completed.load(), 8);
}

TEST_P(DeviceSuite, AnyThreadMaySubmit) {
  std::vector<std::byte> source(4096, std::byte{3});
  std::vector<std::jthread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        Copy copy;
        describe(copy, t % 2 == 0 ? CopyLane::kHostToDevice : CopyLane::kDeviceToHost, device_->arena() + t * 4096,
                 source.data(), Bytes(4096));
        device_->submit(copy);
        wait(copy);
      }
    });
  }
  threads.clear();
  EXPECT_EQ(device_->arena()[3 * 4096], std::byte{3});
}

}  // namespace strata::device
