// c10d's Backend with W ranks as threads of one process. As real ones do, it matches calls by their order alone: the
// n-th call of every rank belongs together, whatever it is for. It notices what they notice (other sizes, a peer that
// never comes), and swaps data silently where they do.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>

namespace strata::testing {

/// What the ranks share. Outlives their backends.
class FakeWire {
 public:
  explicit FakeWire(int size, std::chrono::milliseconds patience = std::chrono::seconds(10))
      : size_(size), patience_(patience), next_(static_cast<std::size_t>(size), 0) {}

  [[nodiscard]] int size() const { return size_; }

  /// Posts what a rank brings to its next collective; returns the collective's number.
  std::uint64_t post(int rank, const at::Tensor& input) {
    const std::lock_guard lock(mutex_);
    const std::uint64_t number = next_[static_cast<std::size_t>(rank)]++;
    Meeting& meeting = meetings_[number];
    meeting.inputs.resize(static_cast<std::size_t>(size_));
    meeting.inputs[static_cast<std::size_t>(rank)] = input.clone();
    ++meeting.posted;
    changed_.notify_all();
    return number;
  }

  /// What all ranks brought, in rank order. Throws, as Gloo does, when one does not come in time or brings
  /// another size.
  std::vector<at::Tensor> collect(std::uint64_t number) {
    std::unique_lock lock(mutex_);
    Meeting& meeting = meetings_[number];
    if (!changed_.wait_for(lock, patience_, [&] { return meeting.posted == size_; })) {
      throw std::runtime_error("timed out waiting for a peer");
    }
    std::vector<at::Tensor> inputs = meeting.inputs;
    if (++meeting.collected == size_) meetings_.erase(number);
    for (const at::Tensor& input : inputs) {
      if (input.nbytes() != inputs[0].nbytes()) throw std::runtime_error("peer sent another number of bytes");
    }
    return inputs;
  }

 private:
  struct Meeting {
    std::vector<at::Tensor> inputs;
    int posted = 0;
    int collected = 0;
  };

  const int size_;
  const std::chrono::milliseconds patience_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::uint64_t> next_;
  std::map<std::uint64_t, Meeting> meetings_;
};

class FakeBackend final : public c10d::Backend {
 public:
  FakeBackend(std::shared_ptr<FakeWire> wire, int rank) : Backend(rank, wire->size()), wire_(std::move(wire)) {}

  const std::string getBackendName() const override { return "fake"; }

  /// From now on every call throws, as after a peer's death.
  void lose_connection() { lost_ = true; }
  [[nodiscard]] int calls() const { return calls_; }

  c10::intrusive_ptr<c10d::Work> _allgather_base(at::Tensor& output, at::Tensor& input,
                                                 const c10d::AllgatherOptions&) override {
    return start(input, [output](const std::vector<at::Tensor>& inputs) {
      auto* to = static_cast<std::byte*>(output.mutable_data_ptr());
      for (const at::Tensor& from : inputs) {
        std::memcpy(to, from.const_data_ptr(), from.nbytes());
        to += from.nbytes();
      }
    });
  }

  c10::intrusive_ptr<c10d::Work> _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                                                      const c10d::ReduceScatterOptions& options) override {
    TORCH_CHECK(options.reduceOp == c10d::ReduceOp::SUM, "only sums");
    return start(input, [output, rank = getRank()](const std::vector<at::Tensor>& inputs) {
      output.copy_(sum_of(inputs, 0, inputs.size()).narrow(0, output.numel() * rank, output.numel()));
    });
  }

  c10::intrusive_ptr<c10d::Work> allreduce(std::vector<at::Tensor>& tensors,
                                           const c10d::AllreduceOptions& options) override {
    TORCH_CHECK(options.reduceOp == c10d::ReduceOp::SUM && tensors.size() == 1, "only sums of one tensor");
    return start(tensors[0], [output = tensors[0]](const std::vector<at::Tensor>& inputs) {
      output.copy_(sum_of(inputs, 0, inputs.size()));
    });
  }

 private:
  using Finish = std::function<void(const std::vector<at::Tensor>&)>;

  class Pending final : public c10d::Work {
   public:
    Pending(std::shared_ptr<FakeWire> wire, std::uint64_t number, Finish finish)
        : wire_(std::move(wire)), number_(number), finish_(std::move(finish)) {}
    bool wait(std::chrono::milliseconds) override {
      finish_(wire_->collect(number_));
      return true;
    }

   private:
    std::shared_ptr<FakeWire> wire_;
    std::uint64_t number_;
    Finish finish_;
  };

  /// By halves, rounded to the element type at each addition, as recursive halving does.
  static at::Tensor sum_of(const std::vector<at::Tensor>& inputs, std::size_t begin, std::size_t end) {
    if (end - begin == 1) return inputs[begin];
    const std::size_t middle = begin + (end - begin) / 2;
    return sum_of(inputs, begin, middle) + sum_of(inputs, middle, end);
  }

  c10::intrusive_ptr<c10d::Work> start(const at::Tensor& input, Finish finish) {
    ++calls_;
    if (lost_) throw std::runtime_error("connection closed by peer\nsecond line");
    return c10::make_intrusive<Pending>(wire_, wire_->post(getRank(), input), std::move(finish));
  }

  std::shared_ptr<FakeWire> wire_;
  bool lost_ = false;
  int calls_ = 0;
};

}  // namespace strata::testing
