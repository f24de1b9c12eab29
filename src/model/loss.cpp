#include "model/loss.hpp"

#include <algorithm>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/softmax.h>
#include <torch/csrc/autograd/custom_function.h>

namespace strata::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Calls body(first, count) for blocks of rows with about 16 MiB of fp32 logits each.
template <class Body>
void for_each_block(const at::Tensor& logits, Body body) {
  constexpr std::int64_t kBlockElements = 4 << 20;
  const auto rows = logits.size(0);
  const auto step = std::max<std::int64_t>(1, kBlockElements / logits.size(1));
  for (std::int64_t first = 0; first < rows; first += step) body(first, std::min(step, rows - first));
}

struct CrossEntropy : torch::autograd::Function<CrossEntropy> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& logits, const at::Tensor& targets) {
    auto losses = at::empty({logits.size(0)}, logits.options().dtype(at::kFloat));
    for_each_block(logits, [&](std::int64_t first, std::int64_t count) {
      const auto log_probability = at::log_softmax(logits.narrow(0, first, count), 1, at::kFloat);
      const auto picked = log_probability.gather(1, targets.narrow(0, first, count).unsqueeze(1));
      losses.narrow(0, first, count).copy_(picked.squeeze(1)).neg_();
    });
    context->save_for_backward({logits, targets});
    return losses.mean();
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto& logits = saved[0];
    const auto& targets = saved[1];
    const auto scale = gradients[0].div(static_cast<double>(logits.size(0)));
    auto gradient = at::empty_like(logits);
    for_each_block(logits, [&](std::int64_t first, std::int64_t count) {
      auto block = at::softmax(logits.narrow(0, first, count), 1, at::kFloat);
      const auto index = targets.narrow(0, first, count).unsqueeze(1);
      block.scatter_add_(1, index, at::full_like(index, -1, block.options()));
      gradient.narrow(0, first, count).copy_(block.mul_(scale));
    });
    return {gradient, at::Tensor()};
  }
};

}  // namespace

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& targets) {
  TORCH_CHECK(logits.dim() == 2 && targets.dim() == 1 && logits.size(0) == targets.size(0) && logits.size(0) > 0,
              "cross_entropy: logits ", logits.sizes(), " and targets ", targets.sizes(), " don't fit together");
  return CrossEntropy::apply(logits, targets);
}

}  // namespace strata::model
