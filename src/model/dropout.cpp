#include "model/dropout.hpp"

#include <array>

#include <ATen/ops/empty.h>
#include <xxhash.h>

#include "base/check.hpp"
#include "model/philox.hpp"

namespace strata::model {
namespace {

constexpr std::uint64_t kBlockElements = std::tuple_size_v<PhiloxBlock>;

std::uint64_t key_of(const RandomKey& key, DropoutSite site) {
  const std::array<std::uint64_t, 5> words = {key.seed, key.step, key.micro_batch, key.unit,
                                              static_cast<std::uint64_t>(site)};
  return XXH3_64bits(words.data(), sizeof words);
}

/// Keeps an element when its 32-bit word reaches the threshold. One thread, a few nanoseconds per element.
void fill_mask(std::uint64_t key, std::uint32_t sample, std::uint32_t threshold, std::span<bool> mask) {
  const std::uint64_t whole = mask.size() / kBlockElements;
  for (std::uint64_t block = 0; block < whole; ++block) {
    const auto words = philox(key, block, sample, PhiloxUse::kDropout);
    for (std::size_t i = 0; i < kBlockElements; ++i) mask[block * kBlockElements + i] = words[i] >= threshold;
  }
  const auto words = philox(key, whole, sample, PhiloxUse::kDropout);
  for (std::size_t i = whole * kBlockElements; i < mask.size(); ++i) mask[i] = words[i % kBlockElements] >= threshold;
}

}  // namespace

at::Tensor dropout(const at::Tensor& input, double probability, const StageContext& context, DropoutSite site) {
  STRATA_CHECK(probability >= 0.0 && probability < 1.0, "probability of dropout");
  if (probability == 0.0 || context.mode == StageContext::Mode::kEvaluate || input.numel() == 0) return input;
  const auto samples = static_cast<std::uint64_t>(input.size(0));
  const auto length = static_cast<std::uint64_t>(input.numel()) / samples;
  auto mask = at::empty(input.sizes(), at::TensorOptions().dtype(at::kBool).device(at::kCPU));
  const std::span<bool> all(mask.data_ptr<bool>(), samples * length);
  const auto key = key_of(context.key, site);
  const auto threshold = static_cast<std::uint32_t>(probability * 0x1p32);
  for (std::uint64_t sample = 0; sample < samples; ++sample) {
    fill_mask(key, static_cast<std::uint32_t>(sample), threshold, all.subspan(sample * length, length));
  }
  // Two multiplications, so that autograd keeps one byte per element and the factor isn't rounded to 16 bits.
  return input.mul(mask.to(input.device())).mul(1.0 / (1.0 - probability));
}

}  // namespace strata::model
