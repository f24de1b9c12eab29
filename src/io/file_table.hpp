// The files that an engine has taken over. Append-only, so that a reference stays valid for the life of the engine.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <utility>

#include "base/check.hpp"
#include "io/file.hpp"
#include "io/request.hpp"

namespace strata::io {

/// Any thread.
class FileTable {
 public:
  FileId add(File file) {
    const std::lock_guard lock(mutex_);
    files_.push_back(std::move(file));
    return FileId(static_cast<std::uint32_t>(files_.size() - 1));
  }

  [[nodiscard]] const File& at(FileId id) const {
    const std::lock_guard lock(mutex_);
    STRATA_CHECK(id.value < files_.size(), "a request names a file that was never attached");
    return files_[id.value];
  }

 private:
  mutable std::mutex mutex_;
  std::deque<File> files_;
};

}  // namespace strata::io
