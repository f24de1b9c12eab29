// Reads and writes of disk objects through the engine: O_DIRECT, into one arena in huge pages.
//   bench_io [--path=DIR] [--file-size=1GiB] [--engine=auto|uring|threads] [Google Benchmark's flags]
// DIR is STRATA_BENCH_PATH, else the working directory. The file is written once in full, since unwritten extents have
// another speed, and has no name any more by the time it is measured, so that nothing is left behind.
// Objects are in flight across iterations: the queue never drains, as in a training step.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/size_text.hpp"
#include "io/engine.hpp"
#include "memory/arena.hpp"

namespace strata::bench {
namespace {

struct Settings {
  std::filesystem::path path = ".";
  Bytes file_size{1u << 30};
  io::EngineKind engine = io::EngineKind::kAuto;
};

constexpr std::size_t kObjectsInFlight = 3;
constexpr std::uint64_t kMinObject = 4u << 20;
constexpr std::uint64_t kFillChunk = 8u << 20;

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// An engine with one file and an arena for the objects in flight.
class Bench {
 public:
  static Result<std::unique_ptr<Bench>> open(const Settings& settings, std::uint64_t block, std::uint32_t depth) {
    auto bench = std::make_unique<Bench>();
    bench->object_ = std::max(kMinObject, block * depth);
    bench->file_size_ = round_down(settings.file_size.value, bench->object_);
    if (bench->file_size_ < kObjectsInFlight * bench->object_) {
      return fail(ErrorCode::kUsage, "the file is too small for the objects in flight", "raise --file-size");
    }
    STRATA_ASSIGN(bench->arena_, memory::Arena::map({.size = Bytes(kObjectsInFlight * bench->object_)}));
    io::EngineOptions options{.kind = settings.engine, .queue_depth = depth, .block_size = Bytes(block)};
    options.report = [](std::string_view line) {
      std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
    };
    STRATA_ASSIGN(bench->engine_, io::open_engine(options));
    const auto path = settings.path / fmt::format("strata-bench-{}", ::getpid());
    STRATA_ASSIGN(io::File file, io::open_file(path, {.creation = io::Creation::kMustNotExist}));
    std::filesystem::remove(path);
    if (file.caching == io::Caching::kBuffered) {
      std::fprintf(stderr, "no direct I/O on %s: this measures the page cache\n", file.file_system.c_str());
    }
    STRATA_TRY(io::preallocate(file, Bytes(bench->file_size_)));
    STRATA_ASSIGN(bench->file_, bench->engine_->attach(std::move(file)));
    STRATA_TRY(bench->fill());
    return bench;
  }

  void start(io::Op op) {
    for (std::size_t i = 0; i < kObjectsInFlight; ++i) {
      io::Request& request = requests_[i];
      request.op = op;
      request.file = file_;
      request.data = arena_.data() + i * object_;
      request.length = Bytes(object_);
      submit_next(request);
    }
  }
  /// Waits for the oldest object and puts the next one in its place.
  [[nodiscard]] Status step() {
    io::Request& oldest = requests_[oldest_];
    STRATA_TRY(io::wait(oldest));
    submit_next(oldest);
    oldest_ = (oldest_ + 1) % kObjectsInFlight;
    return {};
  }

  [[nodiscard]] std::uint64_t object() const { return object_; }
  [[nodiscard]] std::string description() const { return engine_->description(); }

 private:
  void submit_next(io::Request& request) {
    request.offset = Offset(next_);
    next_ = (next_ + object_) % file_size_;
    engine_->submit(request);
  }

  Status fill() {
    const std::uint64_t chunk = std::min(kFillChunk, arena_.size().value);
    std::memset(arena_.data(), 0x5A, chunk);
    for (std::uint64_t at = 0; at < file_size_; at += chunk) {
      const Bytes length(std::min(chunk, file_size_ - at));
      STRATA_TRY(io::transfer(*engine_, io::Op::kWrite, file_, Offset(at), arena_.data(), length));
    }
    return io::transfer(*engine_, io::Op::kFlush, file_, Offset(0), nullptr, Bytes(0));
  }

  std::uint64_t object_ = 0;
  std::uint64_t file_size_ = 0;
  std::uint64_t next_ = 0;
  std::size_t oldest_ = 0;
  io::FileId file_;
  memory::Arena arena_;
  std::array<io::Request, kObjectsInFlight> requests_;
  std::unique_ptr<io::Engine> engine_;  // last: it finishes the requests before they and their bytes go
};

void run(benchmark::State& state, const Settings& settings, io::Op op) {
  auto bench =
      Bench::open(settings, static_cast<std::uint64_t>(state.range(0)), static_cast<std::uint32_t>(state.range(1)));
  if (!bench) {
    state.SkipWithError(to_string(bench.error()).c_str());
    return;
  }
  (*bench)->start(op);
  for (std::size_t i = 0; i < kObjectsInFlight; ++i) {
    if (const Status warm = (*bench)->step(); !warm) {
      state.SkipWithError(to_string(warm.error()).c_str());
      return;
    }
  }
  const double cpu_before = cpu_seconds();
  for (auto _ : state) {
    if (const Status status = (*bench)->step(); !status) {
      state.SkipWithError(to_string(status.error()).c_str());
      return;
    }
  }
  const auto bytes = static_cast<double>(state.iterations()) * static_cast<double>((*bench)->object());
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes));
  state.counters["cpu_s_per_gb"] = (cpu_seconds() - cpu_before) / (bytes * 1e-9);
  state.SetLabel((*bench)->description());
}

void register_rows(const Settings& settings) {
  for (const io::Op op : {io::Op::kRead, io::Op::kWrite}) {
    auto* row = benchmark::RegisterBenchmark(op == io::Op::kRead ? "read" : "write",
                                             [settings, op](benchmark::State& state) { run(state, settings, op); });
    row->ArgNames({"block", "depth"})->UseRealTime()->Unit(benchmark::kMillisecond);
    for (const auto& [block, depth] :
         {std::pair{1 << 20, 1}, {256 << 10, 4}, {1 << 20, 4}, {256 << 10, 32}, {1 << 20, 32}}) {
      row->Args({block, depth});
    }
  }
}

std::optional<std::string_view> value_of(std::string_view argument, std::string_view name) {
  if (argument.substr(0, name.size()) != name) return std::nullopt;
  return argument.substr(name.size());
}

/// Takes our flags out of argv.
Result<Settings> parse(int& argc, char** argv) {
  Settings settings;
  if (const char* path = std::getenv("STRATA_BENCH_PATH"); path != nullptr) settings.path = path;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (const auto path = value_of(argv[i], "--path=")) {
      settings.path = *path;
    } else if (const auto size = value_of(argv[i], "--file-size=")) {
      STRATA_ASSIGN(settings.file_size, parse_size(*size));
    } else if (const auto engine = value_of(argv[i], "--engine=")) {
      if (*engine == "uring") {
        settings.engine = io::EngineKind::kUring;
      } else if (*engine == "threads") {
        settings.engine = io::EngineKind::kThreads;
      } else if (*engine != "auto") {
        return fail(ErrorCode::kUsage, fmt::format("unknown engine '{}'", *engine), "auto, uring or threads");
      }
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  return settings;
}

}  // namespace
}  // namespace strata::bench

int main(int argc, char** argv) {
  const auto settings = strata::bench::parse(argc, argv);
  if (!settings) {
    std::fprintf(stderr, "bench_io: %s\n", strata::to_string(settings.error()).c_str());
    return 2;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  strata::bench::register_rows(*settings);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
