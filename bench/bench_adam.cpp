// Fused AdamW beside a streaming kernel that moves the same bytes, on the same cores and the same memory.
//   bench_adam [--params=N] [--threads=N] [--isa=scalar|avx512] [Google Benchmark's flags]
// The rows `ratio/...` alternate the two, pass by pass, and report speed of AdamW / speed of the streaming kernel.
#include <benchmark/benchmark.h>
#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bench/streaming_kernel.hpp"
#include "optim/cpu_optimizer.hpp"

namespace strata::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kBytesPerParam = 28;  // both forms, see StreamBlock
constexpr std::size_t kStreamBlock = 48 * 1024;

struct Settings {
  std::size_t params = std::size_t{64} << 20;
  std::uint32_t threads = 0;
  kernels::Isa isa = kernels::detect_isa();
};

enum class Form { kBf16, kFp32 };

/// Huge pages where the system gives them, as the engine's arenas have.
class Pages {
 public:
  explicit Pages(std::size_t bytes) : bytes_((bytes + kHuge - 1) / kHuge * kHuge + kHuge) {
    base_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) {
      std::perror("bench_adam: mmap");
      std::exit(1);
    }
    ::madvise(base_, bytes_, MADV_HUGEPAGE);
  }
  ~Pages() { ::munmap(base_, bytes_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  template <class T>
  T* as() const {
    const auto address = reinterpret_cast<std::uintptr_t>(base_);
    return reinterpret_cast<T*>((address + kHuge - 1) / kHuge * kHuge);
  }

 private:
  static constexpr std::size_t kHuge = std::size_t{2} << 20;
  std::size_t bytes_;
  void* base_;
};

class Fixture {
 public:
  explicit Fixture(const Settings& settings)
      : params_(settings.params / kStreamBlock * kStreamBlock),
        isa_(settings.isa),
        optimizer_({.threads = settings.threads, .isa = settings.isa}),
        arena_(static_cast<int>(optimizer_.threads())),
        master_(4 * params_),
        exp_avg_(4 * params_),
        exp_avg_sq_(4 * params_),
        gradient_(4 * params_),
        copy_(2 * params_) {
    for_blocks([&](std::size_t first, std::size_t n) {
      std::fill_n(master_.as<float>() + first, n, 0.5F);
      std::fill_n(exp_avg_.as<float>() + first, n, 0.01F);
      std::fill_n(exp_avg_sq_.as<float>() + first, n, 1e-3F);
      // Read as fp32 or as two bf16, it is a small normal number: denormals would cost ten times the time.
      std::fill_n(gradient_.as<float>() + first, n, std::bit_cast<float>(0x3c003c00U));
      std::fill_n(copy_.as<std::uint16_t>() + first, n, std::uint16_t{0});
    });
  }

  void adam(Form form) {
    const bool bf16 = form == Form::kBf16;
    optim::AdamPiece piece;
    piece.constants = optim::adam_constants({.weight_decay = 0.01}, 10, 0.5F);
    piece.block = {master_.as<float>(),
                   exp_avg_.as<float>(),
                   exp_avg_sq_.as<float>(),
                   gradient_.as<void>(),
                   bf16 ? copy_.as<std::uint16_t>() : nullptr,
                   params_};
    piece.gradient_type = bf16 ? DType::kBFloat16 : DType::kFloat32;
    optimizer_.step({&piece, 1});
  }

  void stream(Form form) {
    const bool bf16 = form == Form::kBf16;
#if defined(__x86_64__)
    const auto kernel = isa_ == kernels::Isa::kAvx512 ? stream_avx512 : stream_scalar;
#else
    const auto kernel = stream_scalar;
#endif
    for_blocks([&](std::size_t first, std::size_t n) {
      kernel({master_.as<float>() + first, exp_avg_.as<float>() + first, exp_avg_sq_.as<float>() + first,
              bf16 ? nullptr : gradient_.as<float>() + first, bf16 ? gradient_.as<std::uint16_t>() + first : nullptr,
              bf16 ? copy_.as<std::uint16_t>() + first : nullptr, n});
    });
  }

  void report(benchmark::State& state) const {
    const auto params = static_cast<double>(params_) * static_cast<double>(state.iterations());
    state.counters["params_per_s"] = benchmark::Counter(params, benchmark::Counter::kIsRate);
    state.SetBytesProcessed(static_cast<std::int64_t>(params * kBytesPerParam));
    state.SetLabel(std::string(name_of(isa_)) + ", threads " + std::to_string(optimizer_.threads()));
  }

 private:
  template <class Body>
  void for_blocks(const Body& body) {
    arena_.execute([&] {
      tbb::parallel_for(
          tbb::blocked_range<std::size_t>(0, params_ / kStreamBlock),
          [&](const tbb::blocked_range<std::size_t>& range) {
            body(range.begin() * kStreamBlock, range.size() * kStreamBlock);
          },
          tbb::static_partitioner());
    });
  }

  std::size_t params_;
  kernels::Isa isa_;
  optim::CpuOptimizer optimizer_;
  tbb::task_arena arena_;
  Pages master_, exp_avg_, exp_avg_sq_, gradient_, copy_;
};

template <class Pass>
double seconds(const Pass& pass) {
  const auto start = Clock::now();
  pass();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void run_ratio(benchmark::State& state, Fixture& fixture, Form form) {
  std::vector<double> ratios;
  for ([[maybe_unused]] auto _ : state) {
    const double stream = seconds([&] { fixture.stream(form); });
    const double adam = seconds([&] { fixture.adam(form); });
    state.SetIterationTime(adam);
    ratios.push_back(stream / adam);
  }
  std::sort(ratios.begin(), ratios.end());
  fixture.report(state);
  state.counters["ratio"] = ratios[ratios.size() / 2];
  state.counters["ratio_min"] = ratios.front();
  state.counters["ratio_max"] = ratios.back();
}

void register_form(const std::shared_ptr<Fixture>& fixture, Form form, const std::string& name) {
  benchmark::RegisterBenchmark(("adamw/" + name).c_str(),
                               [=](benchmark::State& state) {
                                 for ([[maybe_unused]] auto _ : state) fixture->adam(form);
                                 fixture->report(state);
                               })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark(("stream/" + name).c_str(),
                               [=](benchmark::State& state) {
                                 for ([[maybe_unused]] auto _ : state) fixture->stream(form);
                                 fixture->report(state);
                               })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark(("ratio/" + name).c_str(),
                               [=](benchmark::State& state) { run_ratio(state, *fixture, form); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

/// Takes our own flags out of argv; false when one is wrong.
bool parse(int& argc, char** argv, Settings& settings) {
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::string value(argument.substr(std::min(argument.find('=') + 1, argument.size())));
    if (argument.starts_with("--params=")) {
      settings.params = std::strtoull(value.c_str(), nullptr, 10);
    } else if (argument.starts_with("--threads=")) {
      settings.threads = static_cast<std::uint32_t>(std::strtoul(value.c_str(), nullptr, 10));
    } else if (argument.starts_with("--isa=")) {
      if (value != "scalar" && value != "avx512") return false;
      settings.isa = value == "scalar" ? kernels::Isa::kScalar : kernels::Isa::kAvx512;
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  return settings.params >= kStreamBlock && kernels::is_supported(settings.isa);
}

}  // namespace
}  // namespace strata::bench

int main(int argc, char** argv) {
  strata::bench::Settings settings;
  if (!strata::bench::parse(argc, argv, settings)) {
    std::fprintf(stderr, "bench_adam: --params is at least 49152, --isa one that this CPU runs\n");
    return 2;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const auto fixture = std::make_shared<strata::bench::Fixture>(settings);
  strata::bench::register_form(fixture, strata::bench::Form::kBf16, "bf16");
  strata::bench::register_form(fixture, strata::bench::Form::kFp32, "fp32");
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
