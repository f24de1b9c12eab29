#include <cstdio>
#include <cstdlib>

#include "kernels/cpu/kernels_of.hpp"

namespace strata::kernels {
namespace {

constexpr KernelTable kScalarTable = {
    .isa = Isa::kScalar,
    .adam_fp32 = scalar::adam_fp32,
    .adam_bf16 = scalar::adam_bf16,
    .sum_squares_fp32 = scalar::sum_squares_fp32,
    .sum_squares_bf16 = scalar::sum_squares_bf16,
    .round_to_bf16 = scalar::round_to_bf16,
    .widen_bf16 = scalar::widen_bf16,
    .add_fp32 = scalar::add_fp32,
    .add_bf16_to_fp32 = scalar::add_bf16_to_fp32,
};

#if defined(STRATA_HAVE_AVX512)
constexpr KernelTable kAvx512Table = {
    .isa = Isa::kAvx512,
    .adam_fp32 = avx512::adam_fp32,
    .adam_bf16 = avx512::adam_bf16,
    .sum_squares_fp32 = avx512::sum_squares_fp32,
    .sum_squares_bf16 = avx512::sum_squares_bf16,
    .round_to_bf16 = avx512::round_to_bf16,
    .widen_bf16 = avx512::widen_bf16,
    .add_fp32 = avx512::add_fp32,
    .add_bf16_to_fp32 = avx512::add_bf16_to_fp32,
};

/// The compiler's run-time check asks the OS too (XGETBV), so the registers are saved on a context switch.
bool cpu_has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

}  // namespace

std::string_view name_of(Isa isa) {
  switch (isa) {
    case Isa::kScalar: return "scalar";
    case Isa::kAvx512: return "avx512";
  }
  return "unknown";
}

bool is_supported(Isa isa) {
#if defined(STRATA_HAVE_AVX512)
  if (isa == Isa::kAvx512) return cpu_has_avx512();
#endif
  return isa == Isa::kScalar;
}

Isa detect_isa() {
  return is_supported(Isa::kAvx512) ? Isa::kAvx512 : Isa::kScalar;
}

const KernelTable& table_for(Isa isa) {
  if (!is_supported(isa)) {
    const std::string_view name = name_of(isa);
    std::fprintf(stderr, "kernels: this CPU does not run %.*s kernels\n", static_cast<int>(name.size()), name.data());
    std::abort();
  }
#if defined(STRATA_HAVE_AVX512)
  if (isa == Isa::kAvx512) return kAvx512Table;
#endif
  return kScalarTable;
}

}  // namespace strata::kernels
