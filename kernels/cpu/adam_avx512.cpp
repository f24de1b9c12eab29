#include <immintrin.h>

#include "kernels/cpu/kernels_of.hpp"
#include "kernels/cpu/vector_avx512.hpp"

namespace strata::kernels::avx512 {
namespace {

enum class Decay : std::uint8_t { kDecoupled, kL2 };
enum class Copy : std::uint8_t { kNone, kCached, kStreamed };

constexpr std::size_t kLanes = 16;
/// Two vectors fill the 64-byte line of bf16 that the streaming store writes whole.
constexpr std::size_t kPair = 2 * kLanes;
/// Below this a streamed copy would only be fetched back by whoever reads it next.
constexpr std::size_t kStreamFrom = 4096;
/// How far ahead each stream is prefetched, in elements: the hardware prefetcher stops at every 4 KiB page, and five
/// streams use up its trackers.
constexpr std::size_t kAhead = 512;

struct Constants {
  __m512 grad_factor, one_minus_beta1, beta2, one_minus_beta2, eps, step_size, inv_bias2_sqrt, decay_factor, l2;

  explicit Constants(const AdamConstants& c)
      : grad_factor(_mm512_set1_ps(c.grad_factor)),
        one_minus_beta1(_mm512_set1_ps(c.one_minus_beta1)),
        beta2(_mm512_set1_ps(c.beta2)),
        one_minus_beta2(_mm512_set1_ps(c.one_minus_beta2)),
        eps(_mm512_set1_ps(c.eps)),
        step_size(_mm512_set1_ps(c.step_size)),
        inv_bias2_sqrt(_mm512_set1_ps(c.inv_bias2_sqrt)),
        decay_factor(_mm512_set1_ps(c.decay_factor)),
        l2(_mm512_set1_ps(c.l2)) {}
};

struct State {
  __m512 p, m, v;
};

template <Decay kDecay>
inline State update(const Constants& c, State s, __m512 gradient) {
  __m512 g = _mm512_mul_ps(gradient, c.grad_factor);
  if constexpr (kDecay == Decay::kL2) g = _mm512_add_ps(g, _mm512_mul_ps(c.l2, s.p));
  s.m = _mm512_add_ps(s.m, _mm512_mul_ps(_mm512_sub_ps(g, s.m), c.one_minus_beta1));
  s.v = _mm512_add_ps(_mm512_mul_ps(s.v, c.beta2), _mm512_mul_ps(_mm512_mul_ps(c.one_minus_beta2, g), g));
  const __m512 denominator = _mm512_add_ps(_mm512_mul_ps(_mm512_sqrt_ps(s.v), c.inv_bias2_sqrt), c.eps);
  const __m512 change = _mm512_div_ps(_mm512_mul_ps(c.step_size, s.m), denominator);
  s.p = canonical(_mm512_sub_ps(_mm512_mul_ps(s.p, c.decay_factor), change));
  s.m = canonical(s.m);
  s.v = canonical(s.v);
  return s;
}

/// Up to 16 elements from `i` on, by mask.
template <class Gradient, Decay kDecay>
inline void masked_step(const Constants& c, const AdamBlock& b, std::size_t i, std::size_t count) {
  const __mmask16 mask = mask_of(count);
  const auto* gradient = static_cast<const Gradient*>(b.gradient);
  State s = {_mm512_maskz_loadu_ps(mask, b.master + i), _mm512_maskz_loadu_ps(mask, b.exp_avg + i),
             _mm512_maskz_loadu_ps(mask, b.exp_avg_sq + i)};
  s = update<kDecay>(c, s, load_masked(gradient + i, mask));
  _mm512_mask_storeu_ps(b.master + i, mask, s.p);
  _mm512_mask_storeu_ps(b.exp_avg + i, mask, s.m);
  _mm512_mask_storeu_ps(b.exp_avg_sq + i, mask, s.v);
  if (b.parameter16 != nullptr) store_bf16_masked(b.parameter16 + i, mask, s.p);
}

inline State load_state(const AdamBlock& b, std::size_t i) {
  return {_mm512_loadu_ps(b.master + i), _mm512_loadu_ps(b.exp_avg + i), _mm512_loadu_ps(b.exp_avg_sq + i)};
}

inline void store_state(const AdamBlock& b, std::size_t i, const State& s) {
  _mm512_storeu_ps(b.master + i, s.p);
  _mm512_storeu_ps(b.exp_avg + i, s.m);
  _mm512_storeu_ps(b.exp_avg_sq + i, s.v);
}

template <class T>
inline void prefetch_pair(const T* from) {
  _mm_prefetch(reinterpret_cast<const char*>(from), _MM_HINT_T0);
  if constexpr (sizeof(T) == 4) _mm_prefetch(reinterpret_cast<const char*>(from + kLanes), _MM_HINT_T0);
}

template <class Gradient, Decay kDecay, Copy kCopy>
inline void pair_step(const Constants& c, const AdamBlock& b, std::size_t i) {
  const auto* gradient = static_cast<const Gradient*>(b.gradient);
  prefetch_pair(b.master + i + kAhead);
  prefetch_pair(b.exp_avg + i + kAhead);
  prefetch_pair(b.exp_avg_sq + i + kAhead);
  prefetch_pair(gradient + i + kAhead);
  const State low = update<kDecay>(c, load_state(b, i), load(gradient + i));
  const State high = update<kDecay>(c, load_state(b, i + kLanes), load(gradient + i + kLanes));
  store_state(b, i, low);
  store_state(b, i + kLanes, high);
  if constexpr (kCopy == Copy::kStreamed) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(b.parameter16 + i), pair_to_bf16(low.p, high.p));
  } else if constexpr (kCopy == Copy::kCached) {
    _mm512_storeu_si512(b.parameter16 + i, pair_to_bf16(low.p, high.p));
  }
}

template <class Gradient, Decay kDecay, Copy kCopy>
void adam(const AdamConstants& constants, const AdamBlock& b) {
  const Constants c(constants);
  std::size_t i = 0;
  if constexpr (kCopy == Copy::kStreamed) {
    // The streaming store wants a 64-byte line: come to one by masked steps.
    std::size_t head = (64 - reinterpret_cast<std::uintptr_t>(b.parameter16) % 64) % 64 / sizeof(std::uint16_t);
    if (head > b.n) head = b.n;
    while (i < head) {
      const std::size_t count = head - i < kLanes ? head - i : kLanes;
      masked_step<Gradient, kDecay>(c, b, i, count);
      i += count;
    }
  }
  for (; i + kPair <= b.n; i += kPair) pair_step<Gradient, kDecay, kCopy>(c, b, i);
  while (i < b.n) {
    const std::size_t count = b.n - i < kLanes ? b.n - i : kLanes;
    masked_step<Gradient, kDecay>(c, b, i, count);
    i += count;
  }
  // Streaming stores are weakly ordered; whoever is told that the block is done must see them.
  if constexpr (kCopy == Copy::kStreamed) _mm_sfence();
}

template <class Gradient, Decay kDecay>
void choose_copy(const AdamConstants& constants, const AdamBlock& block) {
  if (block.parameter16 == nullptr) return adam<Gradient, kDecay, Copy::kNone>(constants, block);
  if (block.n < kStreamFrom) return adam<Gradient, kDecay, Copy::kCached>(constants, block);
  adam<Gradient, kDecay, Copy::kStreamed>(constants, block);
}

template <class Gradient>
void choose(const AdamConstants& constants, const AdamBlock& block) {
  // Not a multiplication by zero: 0 * inf would poison the gradient, and -0 would become +0.
  if (constants.l2 != 0) return choose_copy<Gradient, Decay::kL2>(constants, block);
  choose_copy<Gradient, Decay::kDecoupled>(constants, block);
}

}  // namespace

void adam_fp32(const AdamConstants& constants, const AdamBlock& block) {
  choose<float>(constants, block);
}
void adam_bf16(const AdamConstants& constants, const AdamBlock& block) {
  choose<std::uint16_t>(constants, block);
}

}  // namespace strata::kernels::avx512
