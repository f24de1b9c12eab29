// CPU kernels: free functions over plain pointers, one table per instruction set, bits equal on all of them.
// Standard library only. Every function is single-threaded and allocates nothing; callers cut the work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace strata::kernels {

enum class Isa : std::uint8_t { kScalar, kAvx512 };

[[nodiscard]] std::string_view name_of(Isa isa);
/// The best that this CPU and OS run.
[[nodiscard]] Isa detect_isa();

/// Norms are summed in blocks of this many elements in parameter coordinates, each on 16 virtual lanes in float64, so
/// that the result depends on neither ISA nor threads.
inline constexpr std::size_t kNormBlock = 4096;

/// Constants of one Adam step, computed once per parameter group and step (in float64, then rounded).
/// Kingma & Ba 2015, algorithm 1; decoupled decay: Loshchilov & Hutter 2019. Order of operations as torch's:
///   decoupled: p = p * (1 - lr * weight_decay);  else: g = g + weight_decay * p
///   m = m + (g - m) * (1 - beta1);  v = v * beta2 + (1 - beta2) * g * g
///   p = p - step_size * m / (sqrt(v) / sqrt(bias2) + eps)
struct AdamConstants {
  float grad_factor;       ///< multiplies the gradient first: unscale and clip together
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float eps;
  float step_size;         ///< lr / (1 - beta1^t), or lr without bias correction
  float bias2_sqrt;        ///< sqrt(1 - beta2^t), or 1
  float decay_factor;      ///< 1 - lr * weight_decay when decoupled, else 1
  float l2;                ///< weight_decay when not decoupled (Adam), else 0
};

/// The state of n elements, updated in place. `gradient` is float or bf16; `parameter16`, when not null, gets the new
/// master rounded to bf16 (ties away from zero, see round_to_bf16) in the same pass. No alignment needed; 64 bytes is
/// fastest.
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
  /// Sum of squares of up to kNormBlock elements, float64; inf or NaN if any element is.
  double (*sum_squares_fp32)(const float*, std::size_t n);
  double (*sum_squares_bf16)(const std::uint16_t*, std::size_t n);
  /// hi = (bits + 0x8000) >> 16; NaN becomes 0x7fc0 with its sign dropped.
  void (*round_to_bf16)(const float* from, std::uint16_t* to, std::size_t n);
  void (*widen_bf16)(const std::uint16_t* from, float* to, std::size_t n);
};

/// Valid for the life of the program; immutable. `isa` must be one that detect_isa() allows.
[[nodiscard]] const KernelTable& table_for(Isa isa);

}  // namespace strata::kernels
