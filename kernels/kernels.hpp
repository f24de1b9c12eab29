// CPU kernels: free functions over plain pointers, one table per instruction set, bits equal on all of them.
// Standard library only. Every function is single-threaded and allocates nothing; callers cut the work.
//
// What makes the bits equal:
// - Only IEEE add, subtract, multiply, divide and square root, in the order that is written here, rounded to nearest,
//   denormals kept. No fused multiply-add: baseline x86-64 has none, and the kernels wait for memory, not for adds.
// - Which payload an operation on two NaNs keeps depends on the order of its operands, which a compiler may swap. So
//   every NaN that is stored as a float or a double is the canonical one: positive, quiet, payload 0 (0x7fc00000).
// - An element's result does not depend on its place in the block. Sums have a fixed tree.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace strata::kernels {

enum class Isa : std::uint8_t { kScalar, kAvx512 };

[[nodiscard]] std::string_view name_of(Isa isa);
/// The best that this CPU and OS run.
[[nodiscard]] Isa detect_isa();
/// Whether table_for(isa) may be called here; kScalar always.
[[nodiscard]] bool is_supported(Isa isa);

/// Norms are summed in blocks of this many elements in parameter coordinates, each on 16 virtual lanes in float64, so
/// that the result depends on neither ISA nor threads.
inline constexpr std::size_t kNormBlock = 4096;

/// Constants of one Adam step, computed once per parameter group and step (in float64, then rounded).
/// Kingma & Ba 2015, algorithm 1; decoupled decay: Loshchilov & Hutter 2019. Each operation rounds to fp32, in the
/// order of torch's single-tensor CPU implementation:
///   g = gradient * grad_factor;  if l2 != 0: g = g + l2 * p
///   m = m + (g - m) * one_minus_beta1
///   v = v * beta2 + (one_minus_beta2 * g) * g
///   p = p * decay_factor - (step_size * m) / (sqrt(v) * inv_bias2_sqrt + eps)
/// The one difference from torch: it divides by sqrt(1 - beta2^t), here the reciprocal is multiplied (as DeepSpeed
/// does), which saves a third of the divider's time and costs at most 1 ulp more in the denominator.
struct AdamConstants {
  float grad_factor;  ///< multiplies the gradient first: unscale and clip together
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float eps;
  float step_size;       ///< lr / (1 - beta1^t), or lr without bias correction
  float inv_bias2_sqrt;  ///< 1 / sqrt(1 - beta2^t), or 1
  float decay_factor;    ///< 1 - lr * weight_decay when decoupled, else 1
  float l2;              ///< weight_decay when not decoupled (Adam), else 0
};

/// The state of n elements, updated in place. `gradient` is float or bf16; `parameter16`, when not null, gets the new
/// master rounded to bf16 (ties away from zero, see round_to_bf16) in the same pass. No alignment needed beyond that
/// of the element; 64 bytes is fastest. The arrays must not overlap.
struct AdamBlock {
  float* master;
  float* exp_avg;
  float* exp_avg_sq;
  const void* gradient;
  std::uint16_t* parameter16;
  std::size_t n;
};

struct KernelTable {
  Isa isa;
  void (*adam_fp32)(const AdamConstants&, const AdamBlock&);  ///< gradient: float
  void (*adam_bf16)(const AdamConstants&, const AdamBlock&);  ///< gradient: bf16
  /// Sum of squares of up to kNormBlock elements, float64; inf or NaN if any element is. Lane j sums the elements i
  /// with i % 16 == j in rising order (a square of an fp32 is exact in float64); then lane j += lane j + 8, 4, 2, 1.
  double (*sum_squares_fp32)(const float*, std::size_t n);
  double (*sum_squares_bf16)(const std::uint16_t*, std::size_t n);
  /// hi = (bits + 0x8000) >> 16; NaN becomes 0x7fc0 with its sign dropped.
  void (*round_to_bf16)(const float* from, std::uint16_t* to, std::size_t n);
  /// Exact; a NaN keeps its sign and payload.
  void (*widen_bf16)(const std::uint16_t* from, float* to, std::size_t n);
  /// sum[i] += from[i]: accumulation of gradients.
  void (*add_fp32)(const float* from, float* sum, std::size_t n);
  void (*add_bf16_to_fp32)(const std::uint16_t* from, float* sum, std::size_t n);
};

/// Valid for the life of the program; immutable. `isa` must be one that is_supported() allows, else the program stops.
[[nodiscard]] const KernelTable& table_for(Isa isa);

}  // namespace strata::kernels
