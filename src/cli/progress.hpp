// The progress line of `strata train`: one line that is rewritten on a terminal, plain lines elsewhere.
#pragma once

#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "engine/metrics.hpp"

namespace strata::cli {

/// "step 3/100  loss 5.1234  lr 1.00e-03  812 tokens/s  0:01:12 left  disk 0.41 GB/s  device 664 KiB  host 2.74 MiB"
[[nodiscard]] std::string progress_line(const engine::StepRecord& record, double seconds_per_step);

/// Any thread may call it.
class Progress {
 public:
  Progress();

  void show(const engine::StepRecord& record);
  /// A line that is not about a step; it doesn't tear the progress line.
  void note(std::string_view line);
  /// The last step is on the screen, and the cursor at the start of a line.
  void close();

 private:
  void draw(const engine::StepRecord& record);

  const bool terminal_;
  std::mutex mutex_;
  std::optional<engine::StepRecord> pending_;  ///< came too soon after the one shown before
  std::chrono::steady_clock::time_point shown_at_;
  bool line_open_ = false;
  double seconds_per_step_ = 0;
};

}  // namespace strata::cli
