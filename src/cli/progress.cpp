#include "cli/progress.hpp"

#include <cstdint>
#include <cstdio>
#include <utility>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/size_text.hpp"
#include "cli/report.hpp"

namespace strata::cli {
namespace {

/// How fast lines may follow each other: a screen is read faster than a log is.
constexpr std::chrono::milliseconds kTerminalPause{100};
constexpr std::chrono::milliseconds kPlainPause{2000};

std::string duration(double seconds) {
  const auto whole = static_cast<std::uint64_t>(seconds + 0.5);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

/// Columns of the terminal; 0: unknown.
std::size_t columns() {
  struct winsize size {};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

}  // namespace

std::string progress_line(const engine::StepRecord& record, double seconds_per_step) {
  double disk = 0;
  for (const auto& [lane, bytes] : record.bytes) {
    if (lane.starts_with("disk_")) disk += static_cast<double>(bytes);
  }
  // What matters most comes first: a narrow terminal cuts the end off.
  const std::uint64_t steps_left = record.total_steps > record.step ? record.total_steps - record.step : 0;
  std::string line = fmt::format(
      "step {}/{}  loss {:.4f}  lr {:.2e}  {:.0f} tokens/s  {} left  disk {:.2f} GB/s  device {}  host {}", record.step,
      record.total_steps, record.loss, record.lr, static_cast<double>(record.tokens) / record.step_s,
      duration(static_cast<double>(steps_left) * seconds_per_step), disk / record.step_s / 1e9,
      format_size(record.peak[static_cast<std::size_t>(Tier::kDevice)]),
      format_size(record.peak[static_cast<std::size_t>(Tier::kHost)]));
  if (record.skipped) line += fmt::format("  skipped: {}", record.skip_reason);
  return line;
}

Progress::Progress() : terminal_(::isatty(STDERR_FILENO) == 1) {}

void Progress::show(const engine::StepRecord& record) {
  const std::lock_guard lock(mutex_);
  // Steps differ, so the time left follows the last ten or so.
  seconds_per_step_ = seconds_per_step_ == 0 ? record.step_s : 0.9 * seconds_per_step_ + 0.1 * record.step_s;
  const auto now = std::chrono::steady_clock::now();
  const bool last = record.step >= record.total_steps;
  if (!last && !record.skipped && now - shown_at_ < (terminal_ ? kTerminalPause : kPlainPause)) {
    pending_ = record;
    return;
  }
  shown_at_ = now;
  draw(record);
}

void Progress::draw(const engine::StepRecord& record) {
  pending_.reset();
  std::string line = progress_line(record, seconds_per_step_);
  if (!terminal_) {
    report_line(line);
    return;
  }
  // A line that wraps could not be rewritten.
  if (const std::size_t width = columns(); width > 1 && line.size() >= width) line.resize(width - 1);
  std::fprintf(stderr, "\r\x1b[K%s", line.c_str());
  std::fflush(stderr);
  line_open_ = true;
}

void Progress::note(std::string_view line) {
  const std::lock_guard lock(mutex_);
  if (line_open_) std::fputs("\r\x1b[K", stderr);
  line_open_ = false;
  report_line(line);
}

void Progress::close() {
  const std::lock_guard lock(mutex_);
  if (pending_) draw(*std::exchange(pending_, std::nullopt));
  if (line_open_) std::fputc('\n', stderr);
  line_open_ = false;
}

}  // namespace strata::cli
