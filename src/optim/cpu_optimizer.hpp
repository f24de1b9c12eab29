// Adam and AdamW on the CPU: one pass over spans, by pinned workers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "kernels/kernels.hpp"
#include "strata/types.hpp"

namespace strata::optim {

enum class AdamMode : std::uint8_t { kAdamW, kAdam };
enum class BiasCorrection : std::uint8_t { kOff, kOn };

/// One parameter group's settings (DeepSpeed `optimizer.params`).
struct AdamSettings {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  AdamMode mode = AdamMode::kAdamW;
  BiasCorrection bias_correction = BiasCorrection::kOn;
};

/// `applied_step` is 1 for the first applied step. `grad_factor` = clip factor / loss scale.
[[nodiscard]] kernels::AdamConstants adam_constants(const AdamSettings& settings, std::uint64_t applied_step,
                                                    float grad_factor);

/// A piece of one parameter: elements [first, first + n) of it, in parameter coordinates.
struct AdamPiece {
  kernels::AdamConstants constants;
  kernels::AdamBlock block;
  DType gradient_type = DType::kFloat32;
};

struct NormPiece {
  const void* gradient;
  std::size_t n;
  DType type = DType::kFloat32;
};

enum class Pinning : std::uint8_t {
  kNone,  ///< the OS places the threads
  kAuto   ///< one thread per physical core while it works here, when the threads use all cores that the process may
          ///< use; else as kNone, because several processes on one machine would all choose the same few cores
};

struct CpuOptimizerOptions {
  std::uint32_t threads = 0;  ///< 0: as many as the physical cores that the process may use
  kernels::Isa isa = kernels::Isa::kScalar;
  Pinning pinning = Pinning::kAuto;
};

/// Owns its oneTBB arena; results don't depend on the number of threads. Not for concurrent calls. Calls block until
/// the work is done; the caller's thread takes part (and is bound to a core for that time). oneTBB lends at most as
/// many workers as the process has CPUs; with more `threads` than that, fewer work. Small work is done by the caller.
/// The floating-point environment (MXCSR) is set in every worker: round to nearest, denormals kept.
class CpuOptimizer {
 public:
  explicit CpuOptimizer(const CpuOptimizerOptions& options);
  ~CpuOptimizer();
  CpuOptimizer(const CpuOptimizer&) = delete;
  CpuOptimizer& operator=(const CpuOptimizer&) = delete;

  /// The pieces must not overlap.
  void step(std::span<const AdamPiece> pieces);
  /// Sum of squares of each piece, in float64 over kNormBlock blocks added in order; `sums` has the size of `pieces`.
  /// A piece must start at a multiple of kNormBlock in parameter coordinates for the bits to be layout-independent.
  void sum_squares(std::span<const NormPiece> pieces, std::span<double> sums);
  void round_to_bf16(std::span<const float> from, std::span<std::uint16_t> to);
  /// sum[i] += gradient[i]
  void accumulate(const NormPiece& from, std::span<float> sum);

  [[nodiscard]] std::uint32_t threads() const;
  [[nodiscard]] kernels::Isa isa() const;
  [[nodiscard]] bool pinned() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata::optim
