// The estimates of activation bytes against what LibTorch allocates: never less, and not much more.
#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>

#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include "model/gpt2.hpp"
#include "model/llama.hpp"
#include "support/model_leaves.hpp"

namespace strata::test {
namespace {

/// Counts live bytes and their peak around another allocator.
class CountingAllocator final : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator& inner) : inner_(inner) { instance = this; }
  ~CountingAllocator() override { instance = nullptr; }

  c10::DataPtr allocate(std::size_t bytes) override {
    void* data = inner_.raw_allocate(bytes);
    const std::lock_guard lock(mutex_);
    sizes_[data] = bytes;
    live_ += bytes;
    peak_ = std::max(peak_, live_);
    return {data, data, &CountingAllocator::release, c10::Device(c10::kCPU)};
  }
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override { return &CountingAllocator::release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { inner_.copy_data(to, from, bytes); }

  void start() {
    const std::lock_guard lock(mutex_);
    base_ = peak_ = live_;
  }
  [[nodiscard]] std::size_t peak() {
    const std::lock_guard lock(mutex_);
    return peak_ - base_;
  }

 private:
  static void release(void* data) {
    const std::lock_guard lock(instance->mutex_);
    instance->live_ -= instance->sizes_[data];
    instance->sizes_.erase(data);
    instance->inner_.raw_deallocate(data);
  }

  static CountingAllocator* instance;
  c10::Allocator& inner_;
  std::mutex mutex_;
  std::map<void*, std::size_t> sizes_;
  std::size_t live_ = 0, peak_ = 0, base_ = 0;
};

CountingAllocator* CountingAllocator::instance = nullptr;

class EstimateTest : public ::testing::Test {
 protected:
  EstimateTest() : original_(*c10::GetCPUAllocator()), counter_(original_) { c10::SetCPUAllocator(&counter_, 100); }
  ~EstimateTest() override { c10::SetCPUAllocator(&original_, 100); }

  /// Forward and backward of one stage: the highest bytes above its input, without the parameters' gradients.
  std::uint64_t measure(const model::Model& m, std::size_t stage, const at::Tensor& hidden, const at::Tensor& targets) {
    const auto leaves = make_leaves(m, hidden.scalar_type(), 0.02);
    const auto parameters = stage_parameters(m, leaves, stage);
    std::uint64_t gradients = 0;
    for (const auto& p : parameters) gradients += p.nbytes();
    const auto input = hidden.detach().clone().requires_grad_();
    const auto upstream = at::ones_like(hidden);
    counter_.start();
    const auto out = m.run_stage(stage, parameters, input, targets, {});
    out.backward(out.dim() == 0 ? at::Tensor() : upstream);
    const auto peak = counter_.peak();
    return peak > gradients ? peak - gradients : 0;
  }

  void expect_covers(const char* what, Bytes estimate, std::uint64_t measured) {
    const double ratio = static_cast<double>(estimate.value) / static_cast<double>(measured);
    std::printf("%-28s estimate / measured = %.2f\n", what, ratio);
    EXPECT_GE(ratio, 1.0) << what;
    EXPECT_LE(ratio, 1.8) << what;
  }

  void expect_covers(const model::Model& m, std::int64_t batch, std::int64_t sequence) {
    for (const auto type : {DType::kFloat32, DType::kBFloat16}) {
      const auto scalar = type == DType::kFloat32 ? at::kFloat : at::kBFloat16;
      const auto hidden = at::ones({batch, sequence, m.hidden_size()}, scalar);
      const auto targets = make_ids(batch, sequence, m.vocabulary(), 1);
      const auto estimate = m.activation_estimate(batch, sequence, type);
      const auto label = m.name() + " " + std::string(name_of(type));
      EXPECT_EQ(estimate.checkpoint_per_stage.value, hidden.nbytes());
      expect_covers((label + " block").c_str(), estimate.stage_internal, measure(m, 1, hidden, {}));
      expect_covers((label + " head").c_str(), estimate.last_stage, measure(m, m.stages().size() - 1, hidden, targets));
    }
  }

  c10::Allocator& original_;
  CountingAllocator counter_;
};

model::Gpt2Config small_gpt2(double dropout) {
  model::Gpt2Config c;
  c.vocabulary = 4000;
  c.positions = 1024;
  c.hidden = 128;
  c.layers = 1;
  c.heads = 4;
  c.inner = 512;
  c.embedding_dropout = c.residual_dropout = c.attention_dropout = dropout;
  return c;
}

model::LlamaConfig small_llama(std::int64_t key_value_heads) {
  model::LlamaConfig c;
  c.vocabulary = 4000;
  c.positions = 1024;
  c.hidden = 128;
  c.layers = 1;
  c.heads = 4;
  c.key_value_heads = key_value_heads;
  c.head_size = 32;
  c.inner = 352;
  return c;
}

TEST_F(EstimateTest, CoversGpt2) {
  expect_covers(*model::make_gpt2(small_gpt2(0.0)), 4, 512);
}

TEST_F(EstimateTest, CoversGpt2WithDropout) {
  expect_covers(*model::make_gpt2(small_gpt2(0.1)), 4, 256);
}

TEST_F(EstimateTest, CoversNarrowMlp) {
  auto g = small_gpt2(0.0);
  g.inner = 128;
  expect_covers(*model::make_gpt2(g), 2, 1024);
  auto l = small_llama(4);
  l.inner = 64;
  expect_covers(*model::make_llama(l), 2, 1024);
}

TEST_F(EstimateTest, CoversLlama) {
  expect_covers(*model::make_llama(small_llama(4)), 4, 512);
}

TEST_F(EstimateTest, CoversGroupedLlama) {
  expect_covers(*model::make_llama(small_llama(1)), 4, 512);
}

}  // namespace
}  // namespace strata::test
