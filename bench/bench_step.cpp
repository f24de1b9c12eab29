// One training step with the state in memory, on host and on disk.
//   bench_step --model=configs/models/llama-202m.json --data=PATH --path=DIR [--micro-batch=2] [--sequence=512]
//              [--device-memory=1GiB] [--host-memory=1500MiB] [Google Benchmark's flags]
// Rows: step/in_memory, step/host, step/disk. Each opens a run of its own under DIR (removed at the end), makes one
// step that is not counted (first touch, recording of the order), then one step per iteration.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/size_text.hpp"
#include "engine/trainer.hpp"

namespace strata::bench {
namespace {

enum class Placement { kInMemory, kHost, kDisk };
constexpr const char* kNames[] = {"in_memory", "host", "disk"};

struct Settings {
  std::string model = "configs/models/gpt2-tiny.json";
  std::string data = "src";
  std::string path = ".";
  std::uint64_t micro_batch = 2;
  std::int64_t sequence = 64;
  Bytes device_memory{1ull << 30};
  Bytes host_memory{1500ull << 20};
};

engine::TrainOptions train_options(const Settings& settings, Placement placement, const std::filesystem::path& out) {
  engine::TrainOptions options;
  Config& config = options.config;
  config.precision = Precision::kBf16;
  config.micro_batch = settings.micro_batch;
  config.gradient_clipping = 1.0;
  config.optimizer.lr = 1e-4;
  config.zero.stage = 3;
  config.zero.offload_param.max_in_cpu = 0;
  const OffloadDevice device = placement == Placement::kInMemory ? OffloadDevice::kNone
                               : placement == Placement::kHost   ? OffloadDevice::kCpu
                                                                 : OffloadDevice::kNvme;
  config.zero.offload_param.device = device;
  config.zero.offload_optimizer.device = device;
  // State in memory is committed at the end only, so that the rows differ in where the state lives, not in durability.
  if (placement == Placement::kHost) config.strata.commit_interval = 1'000'000;
  options.mode = placement == Placement::kInMemory ? engine::Mode::kInMemory : engine::Mode::kOffloaded;
  options.recompute = engine::Recompute::kNone;
  options.model = settings.model;
  options.data = {settings.data};
  options.steps = 1'000'000;
  options.sequence = settings.sequence;
  options.out = out;
  options.paths = {out};
  options.device_memory = placement == Placement::kInMemory ? Bytes(16ull << 30) : settings.device_memory;
  options.host_memory = placement == Placement::kHost ? Bytes(16ull << 30) : settings.host_memory;
  options.disk_space = Bytes(200ull << 30);
  return options;
}

void step(benchmark::State& state, const Settings& settings, Placement placement) {
  const auto out = std::filesystem::path(settings.path) / (std::string("strata-bench-step-") + kNames[int(placement)]);
  std::filesystem::remove_all(out);
  {
    auto trainer = engine::Trainer::open(train_options(settings, placement, out));
    if (!trainer) {
      state.SkipWithError(to_string(trainer.error()).c_str());
      return;
    }
    if (auto warm = (*trainer)->train_step(); !warm) state.SkipWithError(to_string(warm.error()).c_str());
    double tokens = 0;
    double read = 0;
    double written = 0;
    double compute = 0;
    double loss = 0;
    std::array<Bytes, kTierCount> peak{};
    for (auto _ : state) {
      const auto record = (*trainer)->train_step();
      if (!record) {
        state.SkipWithError(to_string(record.error()).c_str());
        break;
      }
      tokens += static_cast<double>(record->tokens);
      read += static_cast<double>(record->bytes.at("disk_read:0"));
      written += static_cast<double>(record->bytes.at("disk_write:0"));
      compute += record->compute_s;
      loss = record->loss;
      for (std::size_t t = 0; t < kTierCount; ++t) peak[t] = std::max(peak[t], record->peak[t]);
    }
    const auto count = static_cast<double>(state.iterations());
    state.counters["tokens/s"] = benchmark::Counter(tokens, benchmark::Counter::kIsRate);
    state.counters["compute_s"] = compute / count;
    state.counters["read_bytes"] = read / count;
    state.counters["written_bytes"] = written / count;
    state.counters["device_peak"] = static_cast<double>(peak[0].value);
    state.counters["host_peak"] = static_cast<double>(peak[1].value);
    state.counters["loss"] = loss;
  }
  std::filesystem::remove_all(out);
}

/// Takes our flags out of argv; exits with 2 on one that is wrong.
Settings parse(int& argc, char** argv) {
  Settings settings;
  std::vector<char*> rest = {argv[0]};
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg(argv[i]);
    const auto value = [&](std::string_view flag) { return std::string(arg.substr(flag.size())); };
    const auto size = [&](std::string_view flag) {
      const auto parsed = parse_size(value(flag));
      if (!parsed) {
        std::fprintf(stderr, "bench_step: %s\n", to_string(parsed.error()).c_str());
        std::exit(2);
      }
      return *parsed;
    };
    if (arg.starts_with("--model=")) {
      settings.model = value("--model=");
    } else if (arg.starts_with("--data=")) {
      settings.data = value("--data=");
    } else if (arg.starts_with("--path=")) {
      settings.path = value("--path=");
    } else if (arg.starts_with("--micro-batch=")) {
      settings.micro_batch = size("--micro-batch=").value;
    } else if (arg.starts_with("--sequence=")) {
      settings.sequence = static_cast<std::int64_t>(size("--sequence=").value);
    } else if (arg.starts_with("--device-memory=")) {
      settings.device_memory = size("--device-memory=");
    } else if (arg.starts_with("--host-memory=")) {
      settings.host_memory = size("--host-memory=");
    } else {
      rest.push_back(argv[i]);
    }
  }
  argc = static_cast<int>(rest.size());
  std::copy(rest.begin(), rest.end(), argv);
  return settings;
}

}  // namespace
}  // namespace strata::bench

int main(int argc, char** argv) {
  using strata::bench::Placement;
  const auto settings = strata::bench::parse(argc, argv);
  for (const Placement placement : {Placement::kInMemory, Placement::kHost, Placement::kDisk}) {
    const std::string name = std::string("step/") + strata::bench::kNames[int(placement)];
    benchmark::RegisterBenchmark(name.c_str(), strata::bench::step, settings, placement)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime()
        ->Iterations(3);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
