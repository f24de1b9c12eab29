#include <chrono>

#include "conformance/device_suite.hpp"

namespace strata::device {
namespace {

DeviceCase host_case(std::string name, Addressing addressing, double bytes_per_s) {
  return {std::move(name), [=](Bytes memory) {
            return open_host_device({.memory = memory,
                                     .addressing = addressing,
                                     .h2d_bytes_per_s = bytes_per_s,
                                     .d2h_bytes_per_s = bytes_per_s});
          }};
}

INSTANTIATE_TEST_SUITE_P(HostDevice, DeviceSuite,
                         ::testing::Values(host_case("Shared", Addressing::kShared, 0),
                                           host_case("Separate", Addressing::kSeparate, 0),
                                           host_case("Limited", Addressing::kSeparate, 2e9)),
                         [](const auto& test) { return test.param.name; });

TEST(HostDeviceTest, RefusesNoMemory) {
  const auto device = open_host_device({.memory = Bytes(0)});
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().code, ErrorCode::kUsage);
}

TEST(HostDeviceTest, LimitedLanesKeepTheirSpeedAndOverlap) {
  // 4 MiB per lane at 20 MiB/s: 200 ms each; both together must take well below 400 ms.
  auto device = open_host_device({.memory = Bytes(2u << 20),
                                  .addressing = Addressing::kSeparate,
                                  .h2d_bytes_per_s = 20.0 * (1 << 20),
                                  .d2h_bytes_per_s = 20.0 * (1 << 20)})
                    .value();
  std::vector<std::byte> host(2u << 20);
  std::vector<Copy> copies(8);
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < copies.size(); ++i) {
    const Bytes length(1u << 20);
    if (i % 2 == 0) {
      describe(copies[i], CopyLane::kHostToDevice, device->arena(), host.data(), length);
    } else {
      describe(copies[i], CopyLane::kDeviceToHost, host.data() + length.value, device->arena() + length.value, length);
    }
    device->submit(copies[i]);
  }
  for (Copy& copy : copies) wait(copy);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_GE(took.count(), 0.198);
  EXPECT_LT(took.count(), 0.380);
}

TEST(HostDeviceDeathTest, SubmitOfACopyInFlightAborts) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  auto device = open_host_device({.memory = Bytes(1u << 20), .h2d_bytes_per_s = 1e6}).value();
  std::vector<std::byte> host(1u << 19);
  EXPECT_DEATH(
      {
        Copy copy;
        describe(copy, CopyLane::kHostToDevice, device->arena(), host.data(), Bytes(host.size()));
        copy.state.store(CopyState::kQueued);
        device->submit(copy);
      },
      "in flight");
}

}  // namespace
}  // namespace strata::device
