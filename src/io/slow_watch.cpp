#include "io/slow_watch.hpp"

#include <algorithm>

#include "io/engine_parts.hpp"
#include "io/io_error.hpp"

namespace strata::io {
namespace {

constexpr std::uint64_t kMinPeriodNs = 1'000'000;

}  // namespace

SlowWatch::SlowWatch(const EngineOptions& options, const FileTable& files)
    : after_ns_(static_cast<std::uint64_t>(options.slow_after_s * 1e9)),
      period_ns_(after_ns_ == 0 || !options.report ? 0 : std::max(after_ns_ / 4, kMinPeriodNs)),
      report_(options.report),
      files_(files) {}

std::vector<std::string> SlowWatch::look(BlockScheduler& scheduler) {
  std::vector<std::string> lines;
  if (period_ns_ == 0) return lines;
  const std::uint64_t now = monotonic_ns();
  if (now < next_look_ns_) return lines;
  next_look_ns_ = now + period_ns_;
  scheduler.for_each_outstanding([&](Request& request) {
    if (request.reported_slow || now < request.submitted_ns + after_ns_) return;
    request.reported_slow = true;
    const double waited_s = static_cast<double>(now - request.submitted_ns) * 1e-9;
    lines.push_back(describe_slow(files_.at(request.file), request, waited_s));
  });
  return lines;
}

void SlowWatch::report(const std::vector<std::string>& lines) const {
  for (const std::string& line : lines) report_(line);
}

}  // namespace strata::io
