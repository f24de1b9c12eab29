#include "model/estimate.hpp"

#include <algorithm>

namespace strata::model {
namespace {

// Counted from the operators of a block: what autograd keeps until backward, plus the temporaries that are alive
// together at the worst moment of backward. Parameter gradients are not activations and are left out.

constexpr std::uint64_t kFloatBytes = 4;
/// Scratch of fused attention and matrix products, and allocations that don't grow with the micro-batch.
constexpr std::uint64_t kFixedBytes = 4 << 20;
/// A block of rows of the loss in fp32.
constexpr std::uint64_t kLossBlockBytes = 16 << 20;

std::uint64_t count(std::int64_t value) {
  return static_cast<std::uint64_t>(value);
}

/// Scores exist only when attention drops. Kept: the fp32 probabilities, a byte of mask, the dropped probabilities;
/// backward adds two of their gradients.
std::uint64_t score_bytes(std::int64_t batch, std::int64_t heads, std::int64_t sequence, double dropout,
                          std::uint64_t element) {
  if (dropout == 0.0) return 0;
  return count(batch) * count(heads) * count(sequence) * count(sequence) * (element + 3 * kFloatBytes + 1);
}

/// Normed rows and their gradient, the logits and their gradient; the loss works by blocks, in 16 bits with a converted
/// one beside it.
std::uint64_t head_bytes(std::uint64_t tokens, std::uint64_t vocabulary, std::uint64_t norm_bytes, std::uint64_t hidden,
                         std::uint64_t element) {
  const auto block = std::min(std::max(kLossBlockBytes, kFloatBytes * vocabulary), kFloatBytes * tokens * vocabulary);
  const std::uint64_t blocks = element < kFloatBytes ? 2 : 1;
  return tokens * (2 * vocabulary * element + norm_bytes + 3 * hidden * element) + blocks * block + kFixedBytes;
}

}  // namespace

ActivationEstimate estimate_gpt2(const Gpt2Config& config, std::int64_t batch, std::int64_t sequence, DType type) {
  const auto element = size_of(type).value;
  const auto tokens = count(batch) * count(sequence);
  const auto h = count(config.hidden), inner = count(config.inner);
  // Kept: ln_1, qkv (3), context (2), projection, residual, ln_2, output: 10 h, and two inner. Masks: a byte for each.
  const auto kept = (10 * h + 2 * inner) * element + (config.residual_dropout > 0.0 ? 2 * h : 0);
  // Backward frees what it has used, so it is fullest at its start: the gradient of the wide row beside two others.
  const auto temporary = (inner + 2 * h) * element;
  const auto scores = score_bytes(batch, config.heads, sequence, config.attention_dropout, element);
  return {Bytes(tokens * h * element), Bytes(tokens * (kept + temporary) + scores + kFixedBytes),
          Bytes(head_bytes(tokens, count(config.vocabulary), 2 * h * element, h, element))};
}

ActivationEstimate estimate_llama(const LlamaConfig& config, std::int64_t batch, std::int64_t sequence, DType type) {
  const auto element = size_of(type).value;
  const auto tokens = count(batch) * count(sequence);
  const auto h = count(config.hidden), inner = count(config.inner);
  const auto queries = count(config.heads * config.head_size);
  const auto keys = count(config.key_value_heads * config.head_size);
  const bool narrow = type != DType::kFloat32;
  // A norm keeps the row before the weight and after it, and in 16 bits also the fp32 copy.
  const auto norm = 2 * h * element + (narrow ? h * kFloatBytes : 0);
  const auto repeated = config.heads == config.key_value_heads ? 0 : 2 * queries;
  const auto kept = 2 * norm + (2 * queries + queries + 2 * keys + repeated + 3 * h + 4 * inner) * element;
  const auto norm_backward = 3 * h * (narrow ? kFloatBytes + element : element);
  // Backward is fullest at its start: the gradients of gate and up beside that of the output.
  const auto temporary = (2 * inner + h) * element;
  const auto scores = score_bytes(batch, config.heads, sequence, config.attention_dropout, element);
  return {Bytes(tokens * h * element), Bytes(tokens * (kept + temporary) + scores + kFixedBytes),
          Bytes(head_bytes(tokens, count(config.vocabulary), norm + norm_backward, h, element))};
}

}  // namespace strata::model
