// Notices requests that the disk does not answer.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "io/block_scheduler.hpp"
#include "io/engine.hpp"
#include "io/file_table.hpp"

namespace strata::io {

/// Reports each request that is older than `slow_after_s`, once. Used under the lock or on the thread of the scheduler.
class SlowWatch {
 public:
  SlowWatch(const EngineOptions& options, const FileTable& files);

  /// How long a thread that watches may sleep while requests are outstanding; 0: there is nothing to watch for.
  [[nodiscard]] std::uint64_t period_ns() const { return period_ns_; }

  /// Looks at the requests, at most once per period. Returns the lines for report(), which needs no lock.
  [[nodiscard]] std::vector<std::string> look(BlockScheduler& scheduler);
  void report(const std::vector<std::string>& lines) const;

 private:
  const std::uint64_t after_ns_;
  const std::uint64_t period_ns_;
  const std::function<void(std::string_view)> report_;
  const FileTable& files_;
  std::uint64_t next_look_ns_ = 0;
};

}  // namespace strata::io
