#include "optim/cpu_optimizer.hpp"

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/parallel_for.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <vector>

#include "base/check.hpp"
#include "optim/block_list.hpp"
#include "optim/cores.hpp"
#include "optim/fp_environment.hpp"
#include "optim/pin_observer.hpp"
#include "optim/task_order.hpp"

namespace strata::optim {
namespace {

/// A block's state (12 bytes per element, 2 or 4 of gradient, 2 of copy) stays within a 1 MiB L2, so that what comes
/// right after the update, such as hashing, finds it in cache.
constexpr std::size_t kAdamBlock = 48 * 1024;
static_assert(kAdamBlock % kernels::kNormBlock == 0);
/// Less work than this is done by the caller: waking the workers takes longer.
constexpr std::size_t kInlineElements = 16 * 1024;

const void* advance(const void* from, DType type, std::size_t elements) {
  return static_cast<const std::byte*>(from) + bytes_of(type, elements).value;
}

kernels::AdamBlock part_of(const AdamPiece& piece, const BlockRange& range) {
  kernels::AdamBlock block = piece.block;
  block.master += range.first;
  block.exp_avg += range.first;
  block.exp_avg_sq += range.first;
  block.gradient = advance(block.gradient, piece.gradient_type, range.first);
  if (block.parameter16 != nullptr) block.parameter16 += range.first;
  block.n = range.n;
  return block;
}

void check_type(DType type) {
  STRATA_CHECK(type == DType::kFloat32 || type == DType::kBFloat16, "gradients are fp32 or bf16");
}

}  // namespace

struct CpuOptimizer::Impl {
  const kernels::KernelTable& kernel;
  const std::uint32_t threads;
  tbb::task_arena arena;
  std::optional<PinObserver> observer;
  // Kept between calls, so that a step allocates nothing once it has seen its pieces.
  BlockList blocks;
  std::vector<double> block_sums;

  Impl(const kernels::KernelTable& table, std::uint32_t count)
      : kernel(table),
        threads(count),
        arena(tbb::task_arena::constraints{}.set_max_concurrency(static_cast<int>(count))) {}

  /// Calls `body(first, last)` on parts of [0, count), on the workers or right here.
  template <class Body>
  void run(std::size_t count, std::size_t elements, const Body& body) {
    if (count == 0) return;
    if (threads == 1 || elements <= kInlineElements) {
      const FpEnvironment environment;
      body(std::size_t{0}, count);
      return;
    }
    publish(this);
    arena.execute([&] {
      tbb::parallel_for(tbb::blocked_range<std::size_t>(0, count), [&](const tbb::blocked_range<std::size_t>& range) {
        observe(this);
        const FpEnvironment environment;
        body(range.begin(), range.end());
        publish(this);
      });
    });
    observe(this);
  }

  /// Calls `body(first element, n)` on blocks of one array.
  template <class Body>
  void run_blocks(std::size_t elements, const Body& body) {
    const std::size_t count = (elements + kAdamBlock - 1) / kAdamBlock;
    run(count, elements, [&](std::size_t first, std::size_t last) {
      for (std::size_t i = first; i < last; ++i) body(i * kAdamBlock, std::min(kAdamBlock, elements - i * kAdamBlock));
    });
  }
};

CpuOptimizer::CpuOptimizer(const CpuOptimizerOptions& options) {
  const std::vector<int> cores = physical_cores(allowed_cpus());
  std::uint32_t threads = options.threads;
  if (threads == 0) threads = static_cast<std::uint32_t>(cores.size());
  if (threads == 0) threads = std::max(1U, std::thread::hardware_concurrency());
  impl_ = std::make_unique<Impl>(kernels::table_for(options.isa), threads);
  if (options.pinning == Pinning::kAuto && threads > 1 && threads == cores.size()) {
    impl_->observer.emplace(impl_->arena, cores);
  }
}

CpuOptimizer::~CpuOptimizer() = default;

void CpuOptimizer::step(std::span<const AdamPiece> pieces) {
  BlockList& blocks = impl_->blocks;
  blocks.clear();
  std::size_t elements = 0;
  for (const AdamPiece& piece : pieces) {
    check_type(piece.gradient_type);
    blocks.add(piece.block.n, kAdamBlock);
    elements += piece.block.n;
  }
  impl_->run(blocks.blocks(), elements, [&](std::size_t first, std::size_t last) {
    blocks.visit(first, last, kAdamBlock, [&](std::size_t /*index*/, const BlockRange& range) {
      const AdamPiece& piece = pieces[range.piece];
      const bool bf16 = piece.gradient_type == DType::kBFloat16;
      (bf16 ? impl_->kernel.adam_bf16 : impl_->kernel.adam_fp32)(piece.constants, part_of(piece, range));
    });
  });
}

void CpuOptimizer::sum_squares(std::span<const NormPiece> pieces, std::span<double> sums) {
  STRATA_CHECK(pieces.size() == sums.size(), "one sum per piece");
  BlockList& blocks = impl_->blocks;
  blocks.clear();
  std::size_t elements = 0;
  for (const NormPiece& piece : pieces) {
    check_type(piece.type);
    blocks.add(piece.n, kernels::kNormBlock);
    elements += piece.n;
  }
  std::vector<double>& partial = impl_->block_sums;
  partial.resize(blocks.blocks());
  impl_->run(blocks.blocks(), elements, [&](std::size_t first, std::size_t last) {
    blocks.visit(first, last, kernels::kNormBlock, [&](std::size_t index, const BlockRange& range) {
      const NormPiece& piece = pieces[range.piece];
      const void* from = advance(piece.gradient, piece.type, range.first);
      partial[index] = piece.type == DType::kBFloat16
                           ? impl_->kernel.sum_squares_bf16(static_cast<const std::uint16_t*>(from), range.n)
                           : impl_->kernel.sum_squares_fp32(static_cast<const float*>(from), range.n);
    });
  });
  const FpEnvironment environment;
  for (std::size_t piece = 0; piece < pieces.size(); ++piece) {
    double sum = 0;
    for (std::size_t i = blocks.first_block_of(piece); i < blocks.first_block_of(piece + 1); ++i) sum += partial[i];
    sums[piece] = sum;
  }
}

void CpuOptimizer::round_to_bf16(std::span<const float> from, std::span<std::uint16_t> to) {
  STRATA_CHECK(from.size() == to.size(), "as many elements out as in");
  impl_->run_blocks(from.size(), [&](std::size_t first, std::size_t n) {
    impl_->kernel.round_to_bf16(from.data() + first, to.data() + first, n);
  });
}

void CpuOptimizer::accumulate(const NormPiece& from, std::span<float> sum) {
  STRATA_CHECK(sum.size() == from.n, "as many elements added as there are sums");
  check_type(from.type);
  impl_->run_blocks(from.n, [&](std::size_t first, std::size_t n) {
    const void* source = advance(from.gradient, from.type, first);
    if (from.type == DType::kBFloat16) {
      impl_->kernel.add_bf16_to_fp32(static_cast<const std::uint16_t*>(source), sum.data() + first, n);
    } else {
      impl_->kernel.add_fp32(static_cast<const float*>(source), sum.data() + first, n);
    }
  });
}

std::uint32_t CpuOptimizer::threads() const {
  return impl_->threads;
}
kernels::Isa CpuOptimizer::isa() const {
  return impl_->kernel.isa;
}
bool CpuOptimizer::pinned() const {
  return impl_->observer.has_value();
}

}  // namespace strata::optim
