// The metrics file: strata.metrics/1, JSON lines (docs/formats.md). No torch.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "strata/types.hpp"

namespace strata::engine {

enum class EndReason : std::uint8_t { kDone, kInterrupted, kError };

struct MetricsHeader {
  std::string run_id;
  std::uint64_t seed = 0;
  std::string device;
  std::string isa;
  std::string precision;
  std::uint64_t params_total = 0;
  std::uint64_t params_trainable = 0;
  std::uint64_t micro_batch = 0;
  std::uint64_t accumulation = 0;
  std::uint64_t sequence = 0;
  std::array<Bytes, kTierCount> budget{};
  std::vector<std::filesystem::path> paths;
  std::uint64_t resumed_from_step = 0;
  Bytes resident_baseline;  ///< what the process held before the first arena; peaks are counted from here
};

/// Waiting inside a step, by lane and cause.
struct LaneStall {
  double late_s = 0;
  double no_room_s = 0;
  double queue_s = 0;
  double commit_s = 0;
  [[nodiscard]] double total() const { return late_s + no_room_s + queue_s + commit_s; }
  void scale(double factor) {
    for (double* part : {&late_s, &no_room_s, &queue_s, &commit_s}) *part *= factor;
  }
};

struct StepRecord {
  std::uint64_t step = 0;
  std::uint64_t total_steps = 0;  ///< asked for; not in the file
  std::uint64_t applied_steps = 0;
  std::uint64_t samples = 0;
  std::uint64_t tokens = 0;
  double loss = 0;
  double lr = 0;
  double grad_norm = 0;
  double clip_factor = 1;
  bool skipped = false;
  std::string skip_reason;
  double step_s = 0;
  double compute_s = 0;
  double other_s = 0;
  std::map<std::string, LaneStall> stall;
  std::map<std::string, std::uint64_t> bytes;
  std::map<std::string, double> busy_s;
  std::array<Bytes, kTierCount> peak{};
  std::uint64_t late_count = 0;
  std::uint64_t wasted_bytes = 0;
  std::uint64_t refetched_bytes = 0;
  std::uint64_t written_total_bytes = 0;
  std::uint64_t read_total_bytes = 0;
  std::uint64_t durable_step = 0;
  std::uint64_t generation = 0;
};

/// Appends; each line is written whole. Not thread-safe.
class MetricsWriter {
 public:
  [[nodiscard]] static Result<std::unique_ptr<MetricsWriter>> open(const std::filesystem::path& file);
  /// A file that open() made and nothing was written to goes again.
  ~MetricsWriter();
  MetricsWriter(const MetricsWriter&) = delete;
  MetricsWriter& operator=(const MetricsWriter&) = delete;

  /// Drops what a crash left of a last line, too.
  [[nodiscard]] Status write(const MetricsHeader& header);
  [[nodiscard]] Status write(const StepRecord& record, const std::vector<std::filesystem::path>& paths);
  [[nodiscard]] Status write_end(EndReason reason, std::uint64_t steps, double wall_s, const std::string& state_digest);

 private:
  enum class File : std::uint8_t { kMade, kFound };
  MetricsWriter(std::filesystem::path path, std::ofstream out, File file)
      : path_(std::move(path)), out_(std::move(out)), file_(file) {}
  [[nodiscard]] Status put(const std::string& line);
  [[nodiscard]] Status drop_torn_line();

  std::filesystem::path path_;
  std::ofstream out_;
  File file_;
};

}  // namespace strata::engine
