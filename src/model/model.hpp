// GPT-2 and Llama as functions over parameters that somebody else owns.
//
// A model holds no tensors. It says which parameters it wants (units), how each is initialised, and what each stage
// computes; the caller decides where the bytes live and passes tensors in. So a unit can be anywhere until its stage
// runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "base/result.hpp"
#include "strata/types.hpp"

namespace strata::model {

/// How the elements of one parameter start (`std` counts for kNormal alone; the mean is 0).
struct InitRule {
  enum class Kind : std::uint8_t { kNormal, kZeros, kOnes };
  Kind kind = Kind::kZeros;
  double std = 0.0;
};

struct ParameterSpec {
  std::string name;  ///< state_dict name as in transformers, e.g. "transformer.h.0.attn.c_attn.weight"
  std::vector<std::int64_t> shape;
  InitRule init;

  [[nodiscard]] std::uint64_t elements() const {
    std::uint64_t count = 1;
    for (const auto extent : shape) count *= static_cast<std::uint64_t>(extent);
    return count;
  }
};

/// The smallest thing gathered and released together.
struct UnitSpec {
  std::string name;  ///< "embedding", "transformer.h.3", "model.layers.3", "head"
  std::vector<ParameterSpec> parameters;
};

/// Randomness of one unit in one micro-batch. Dropout masks depend on nothing else, so recomputing, reordering and
/// resuming repeat them.
struct RandomKey {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  std::uint64_t micro_batch = 0;
  std::uint64_t unit = 0;
};

struct StageContext {
  enum class Mode : std::uint8_t { kTrain, kEvaluate };
  RandomKey key;
  Mode mode = Mode::kTrain;
};

/// One entry point: it uses the parameters of `units` and maps activations to activations.
struct StageSpec {
  enum class Recompute : std::uint8_t { kAllowed, kNever };
  std::string name;
  std::vector<std::uint32_t> units;  ///< indices into Model::units(), in the order in which their parameters are passed
  Recompute recompute = Recompute::kAllowed;
};

/// Upper estimates of activation bytes on the device for one micro-batch.
struct ActivationEstimate {
  Bytes checkpoint_per_stage;  ///< kept between stages: the hidden state that enters a stage
  Bytes stage_internal;        ///< inside the largest block stage while it runs with grad and backward
  Bytes last_stage;            ///< inside the last stage (final norm, logits, loss) with grad and backward
};

/// Immutable after load; every method may be called from any thread.
class Model {
 public:
  Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  virtual ~Model() = default;

  /// Embedding, blocks 0 .. L-1, head. A tied weight belongs to the embedding unit alone.
  [[nodiscard]] virtual const std::vector<UnitSpec>& units() const = 0;

  /// Embed, blocks 0 .. L-1, head and loss. With tied embeddings the last stage lists {head, embedding}.
  [[nodiscard]] virtual const std::vector<StageSpec>& stages() const = 0;

  /// Runs one stage under the autograd mode of the caller. `parameters` are those of the stage's units, concatenated in
  /// the order of StageSpec::units. Stage 0 takes token ids [batch, sequence] int64; the last stage takes the hidden
  /// state and `targets` [batch, sequence] int64 and gives the mean loss as fp32 scalar; the others map hidden state
  /// [batch, sequence, hidden] to hidden state. Throws c10::Error as every LibTorch operator does (out of memory, an id
  /// beyond the vocabulary).
  [[nodiscard]] virtual at::Tensor run_stage(std::size_t stage, std::span<const at::Tensor> parameters,
                                             const at::Tensor& input, const at::Tensor& targets,
                                             const StageContext& context) const = 0;

  [[nodiscard]] virtual std::string name() const = 0;  ///< "gpt2" or "llama"
  [[nodiscard]] virtual std::int64_t vocabulary() const = 0;
  [[nodiscard]] virtual std::int64_t hidden_size() const = 0;
  [[nodiscard]] virtual std::int64_t max_positions() const = 0;

  [[nodiscard]] virtual ActivationEstimate activation_estimate(std::int64_t batch, std::int64_t sequence,
                                                               DType type) const = 0;
};

/// Reads a Hugging Face config.json (the file, or a folder that holds it). model_type gpt2 and llama; others are
/// refused by name. kUsage when the path is missing, kConfig when its content is wrong.
[[nodiscard]] Result<std::unique_ptr<Model>> load_model(const std::filesystem::path& folder_or_config_json);

/// The number of elements of all parameters, each counted once.
[[nodiscard]] std::uint64_t parameter_count(const Model& model);

}  // namespace strata::model
