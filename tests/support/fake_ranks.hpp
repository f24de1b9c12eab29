// W ranks as threads of one process, with the contract of zero::Collectives: blocking, in the same order on every rank.
#pragma once

#include <barrier>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include <fmt/format.h>

#include "zero/collectives.hpp"

namespace strata::testing {

/// What the ranks share. Create one, then a FakeRank per thread.
class FakeGroup {
 public:
  explicit FakeGroup(std::uint32_t size) : calls_(size), barrier_(static_cast<std::ptrdiff_t>(size)) {}

  struct Call {
    const void* input = nullptr;
    std::size_t bytes = 0;
    zero::CollectiveTag tag;
    double* values = nullptr;
    std::size_t count = 0;
  };

  /// Runs `combine` on every rank between two barriers, after all ranks have published their call. A rank whose tag
  /// differs from rank 0's makes every rank fail with both names.
  template <class Combine>
  Status run(std::uint32_t rank, const Call& call, Combine combine) {
    calls_[rank] = call;
    barrier_.arrive_and_wait();
    Status status;
    for (std::uint32_t r = 1; r < calls_.size() && status; ++r) {
      const auto& a = calls_[0].tag;
      const auto& b = calls_[r].tag;
      if (a.unit != b.unit || a.section != b.section || a.visit != b.visit || calls_[0].bytes != calls_[r].bytes) {
        status =
            fail(ErrorCode::kInternal,
                 fmt::format("collectives out of order: rank 0 is at unit {} visit {}, rank {} at unit {} visit {}",
                             a.unit.value, a.visit, r, b.unit.value, b.visit));
      }
    }
    if (status) combine(calls_);
    barrier_.arrive_and_wait();
    return status;
  }

 private:
  std::vector<Call> calls_;
  std::barrier<> barrier_;
};

class FakeRank final : public zero::Collectives {
 public:
  FakeRank(FakeGroup& group, std::uint32_t rank, std::uint32_t size) : group_(group), rank_(rank), size_(size) {}

  [[nodiscard]] std::uint32_t rank() const override { return rank_; }
  [[nodiscard]] std::uint32_t world_size() const override { return size_; }

  Status all_gather(std::span<const std::byte> shard, std::span<std::byte> full, DType,
                    const zero::CollectiveTag& tag) override {
    return group_.run(rank_, {shard.data(), shard.size(), tag}, [&](const std::vector<FakeGroup::Call>& calls) {
      for (std::size_t r = 0; r < calls.size(); ++r) {
        std::memcpy(full.data() + r * shard.size(), calls[r].input, shard.size());
      }
    });
  }

  Status reduce_scatter_mean(std::span<const std::byte> full, std::span<std::byte> shard, DType type,
                             const zero::CollectiveTag& tag) override {
    return group_.run(rank_, {full.data(), full.size(), tag}, [&](const std::vector<FakeGroup::Call>& calls) {
      if (type == DType::kFloat32) {
        const std::size_t n = shard.size() / sizeof(float);
        auto* out = reinterpret_cast<float*>(shard.data());
        for (std::size_t i = 0; i < n; ++i) {
          float sum = 0;
          for (const auto& call : calls) sum += static_cast<const float*>(call.input)[rank_ * n + i];
          out[i] = sum / static_cast<float>(size_);
        }
      } else {
        const std::size_t n = shard.size() / sizeof(std::uint16_t);
        auto* out = reinterpret_cast<std::uint16_t*>(shard.data());
        for (std::size_t i = 0; i < n; ++i) {
          float sum = 0;
          for (const auto& call : calls) sum += widen(static_cast<const std::uint16_t*>(call.input)[rank_ * n + i]);
          out[i] = narrow(sum / static_cast<float>(size_));
        }
      }
    });
  }

  Status all_reduce_sum(std::span<double> values) override {
    FakeGroup::Call call;
    call.values = values.data();
    call.count = values.size();
    std::vector<double> sums(values.size(), 0.0);
    auto status = group_.run(rank_, call, [&](const std::vector<FakeGroup::Call>& calls) {
      for (const auto& other : calls) {
        for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += other.values[i];
      }
    });
    // Written after the second barrier: other ranks still read the inputs before it.
    if (status) std::copy(sums.begin(), sums.end(), values.begin());
    return status;
  }

 private:
  static float widen(std::uint16_t bits) {
    const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
  }
  static std::uint16_t narrow(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<std::uint16_t>((bits + 0x8000u) >> 16);
  }

  FakeGroup& group_;
  std::uint32_t rank_;
  std::uint32_t size_;
};

}  // namespace strata::testing
