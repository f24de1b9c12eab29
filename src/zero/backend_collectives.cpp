#include "zero/backend_collectives.hpp"

#include <array>
#include <exception>
#include <string_view>
#include <utility>
#include <vector>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "base/check.hpp"
#include "zero/tensor_types.hpp"

namespace strata::zero {
namespace {

enum class Call : std::int64_t { kGather, kReduceScatter, kAllReduce };

/// What a rank is about to do. Equal on all ranks, or somebody is out of step.
struct Announcement {
  Call call = Call::kGather;
  CollectiveTag tag;
  DType type = DType::kFloat32;
  std::size_t bytes = 0;  ///< of the whole buffer
};

constexpr std::size_t kWords = 7;
using Words = std::array<std::int64_t, kWords>;

Words encode(const Announcement& next) {
  // The first word tells a stray payload from an announcement.
  constexpr std::int64_t kMark = 0x7374726174613031;
  return {kMark,
          static_cast<std::int64_t>(next.call),
          static_cast<std::int64_t>(next.tag.unit.value),
          static_cast<std::int64_t>(next.tag.section),
          static_cast<std::int64_t>(next.tag.visit),
          static_cast<std::int64_t>(next.type),
          static_cast<std::int64_t>(next.bytes)};
}

std::string describe(const std::int64_t* words) {
  constexpr std::string_view kNames[] = {"gathers", "reduces", "sums numbers"};
  const auto call = static_cast<std::size_t>(words[1]);
  if (call >= std::size(kNames)) return "is in another collective";
  if (call == static_cast<std::size_t>(Call::kAllReduce)) return fmt::format("{} ({} bytes)", kNames[call], words[6]);
  return fmt::format("{} unit {} section {} (visit {}, {} bytes)", kNames[call], words[2], words[3], words[4],
                     words[6]);
}

at::Tensor view_of(const void* data, std::size_t count, c10::ScalarType type) {
  // from_blob has no const form; inputs of collectives are only read.
  return at::from_blob(const_cast<void*>(data), {static_cast<std::int64_t>(count)}, at::TensorOptions().dtype(type));
}

at::Tensor view_of(std::span<const std::byte> bytes, DType type) {
  return view_of(bytes.data(), bytes.size() / static_cast<std::size_t>(bytes_of(type, 1).value), scalar_type_of(type));
}

void finish(const c10::intrusive_ptr<c10d::Work>& work) {
  if (work && !work->wait()) TORCH_CHECK(false, "the collective was aborted");
}

class BackendCollectives final : public Collectives {
 public:
  BackendCollectives(c10::intrusive_ptr<c10d::Backend> backend, OrderCheck check)
      : backend_(std::move(backend)),
        check_(check),
        rank_(static_cast<std::uint32_t>(backend_->getRank())),
        size_(static_cast<std::uint32_t>(backend_->getSize())) {}

  [[nodiscard]] std::uint32_t rank() const override { return rank_; }
  [[nodiscard]] std::uint32_t world_size() const override { return size_; }

  Status all_gather(std::span<const std::byte> shard, std::span<std::byte> full, DType type,
                    const CollectiveTag& tag) override {
    STRATA_CHECK(full.size() == shard.size() * size_, "a gather fills one shard per rank");
    return guarded({Call::kGather, tag, type, full.size()}, [&] {
      at::Tensor output = view_of(full, type);
      at::Tensor input = view_of(shard, type);
      finish(backend_->_allgather_base(output, input, {}));
    });
  }

  Status reduce_scatter_mean(std::span<const std::byte> full, std::span<std::byte> shard, DType type,
                             const CollectiveTag& tag) override {
    STRATA_CHECK(full.size() == shard.size() * size_, "a reduction leaves one shard per rank");
    return guarded({Call::kReduceScatter, tag, type, full.size()}, [&] {
      at::Tensor output = view_of(shard, type);
      at::Tensor input = view_of(full, type);
      c10d::ReduceScatterOptions options;
      options.reduceOp = c10d::ReduceOp::SUM;
      finish(backend_->_reduce_scatter_base(output, input, options));
      output.div_(static_cast<double>(size_));
    });
  }

  Status all_reduce_sum(std::span<double> values) override {
    return guarded({Call::kAllReduce, {}, DType::kFloat32, values.size_bytes()}, [&] {
      std::vector<at::Tensor> tensors = {view_of(values.data(), values.size(), c10::ScalarType::Double)};
      finish(backend_->allreduce(tensors, {}));
    });
  }

 private:
  /// The one place where c10d's exceptions become ours.
  template <class Work>
  Status guarded(const Announcement& next, Work work) {
    const Words mine = encode(next);
    try {
      if (check_ == OrderCheck::kEveryCall) STRATA_TRY(compare(mine));
      work();
      return {};
    } catch (const c10::Error& error) {
      return failed(mine, error.what_without_backtrace());
    } catch (const std::exception& error) {
      return failed(mine, error.what());
    }
  }

  Status compare(const Words& mine) {
    std::vector<std::int64_t> all(kWords * size_);
    at::Tensor output = view_of(all.data(), all.size(), c10::ScalarType::Long);
    at::Tensor input = view_of(mine.data(), mine.size(), c10::ScalarType::Long);
    finish(backend_->_allgather_base(output, input, {}));
    for (std::uint32_t r = 1; r < size_; ++r) {
      const std::int64_t* theirs = all.data() + r * kWords;
      if (std::equal(theirs, theirs + kWords, all.data())) continue;
      return fail(ErrorCode::kInternal,
                  fmt::format("the ranks are out of step: rank 0 {}, rank {} {}", describe(all.data()), r,
                              describe(theirs)),
                  "every rank must run the same units in the same order; resume from the last committed step");
    }
    return {};
  }

  [[nodiscard]] Status failed(const Words& next, std::string_view why) const {
    return fail(ErrorCode::kIo,
                fmt::format("rank {} of {} {}: {} failed: {}", rank_, size_, describe(next.data()),
                            backend_->getBackendName(), why.substr(0, why.find('\n'))),
                "see which rank ended first, then resume from the last committed step");
  }

  const c10::intrusive_ptr<c10d::Backend> backend_;
  const OrderCheck check_;
  const std::uint32_t rank_;
  const std::uint32_t size_;
};

}  // namespace

std::unique_ptr<Collectives> collectives_over(c10::intrusive_ptr<c10d::Backend> backend, OrderCheck check) {
  STRATA_CHECK(backend, "collectives need a backend");
  return std::make_unique<BackendCollectives>(std::move(backend), check);
}

}  // namespace strata::zero
