// Against a plain LibTorch loop: the same model functions, autograd and torch::optim::AdamW, nothing of the engine.
#include <cmath>

#include <ATen/ATen.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>

#include "model/initialize.hpp"
#include "support/temp_dir.hpp"
#include "support/training.hpp"

namespace strata {
namespace {

std::vector<double> plain_losses(const testing::Case& test, const engine::TrainOptions& options) {
  const auto model = model::load_model(options.model).value();
  const auto data = model::ByteDataset::open(options.data, options.sequence).value();
  std::vector<std::vector<at::Tensor>> units;
  std::vector<at::Tensor> all;
  for (const auto& unit : model->units()) {
    std::vector<at::Tensor> parameters;
    for (const auto& spec : unit.parameters) {
      at::Tensor value = at::empty(spec.shape);
      model::initialize_parameter(spec, options.seed, 0,
                                  {value.data_ptr<float>(), static_cast<std::size_t>(value.numel())});
      value.set_requires_grad(true);
      parameters.push_back(value);
      all.push_back(value);
    }
    units.push_back(std::move(parameters));
  }
  torch::optim::AdamW optimizer(all, torch::optim::AdamWOptions(test.lr).weight_decay(0.01));
  std::vector<double> losses;
  const auto batch = static_cast<std::int64_t>(options.config.micro_batch);
  const auto row = static_cast<std::size_t>(options.sequence);
  std::uint64_t sample = 0;
  for (std::uint64_t step = 1; step <= test.steps; ++step) {
    optimizer.zero_grad();
    double total = 0;
    for (std::uint64_t m = 0; m < test.accumulation; ++m) {
      at::Tensor ids = at::empty({batch, options.sequence}, at::kLong);
      at::Tensor targets = at::empty({batch, options.sequence}, at::kLong);
      for (std::size_t b = 0; b < static_cast<std::size_t>(batch); ++b) {
        EXPECT_TRUE(data.sample(sample++, options.seed, {ids.data_ptr<std::int64_t>() + b * row, row},
                                {targets.data_ptr<std::int64_t>() + b * row, row}));
      }
      at::Tensor x = ids;
      for (std::size_t s = 0; s < model->stages().size(); ++s) {
        std::vector<at::Tensor> parameters;
        for (const auto unit : model->stages()[s].units) {
          parameters.insert(parameters.end(), units[unit].begin(), units[unit].end());
        }
        x = model->run_stage(s, parameters, x, targets, {{options.seed, step, m, s}});
      }
      total += x.item<float>();
      (x / static_cast<double>(test.accumulation)).backward();
    }
    torch::nn::utils::clip_grad_norm_(all, test.clipping);
    optimizer.step();
    losses.push_back(total / static_cast<double>(test.accumulation));
  }
  return losses;
}

void expect_close(const std::string& model, std::uint64_t accumulation) {
  const testing::TempDir folder;
  const testing::Case test{
      .model = model, .precision = Precision::kFp32, .accumulation = accumulation, .steps = 50};
  auto options = testing::train_options(test, testing::Placement::kDisk, folder.path(), "run");
  const auto ours = testing::train(test, options);
  const auto plain = plain_losses(test, options);
  ASSERT_EQ(ours.losses.size(), plain.size());
  for (std::size_t i = 0; i < plain.size(); ++i) {
    EXPECT_LE(std::abs(ours.losses[i] - plain[i]), 1e-6 * std::abs(plain[i])) << "step " << i + 1;
  }
}

TEST(PlainLoopTest, Gpt2LossesAgreeOverFiftySteps) { expect_close("gpt2-tiny", 1); }

TEST(PlainLoopTest, LlamaLossesAgreeWithAccumulation) { expect_close("llama-tiny", 4); }

}  // namespace
}  // namespace strata
