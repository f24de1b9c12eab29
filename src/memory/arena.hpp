// One mapping of exact size that all buffers of a role are cut from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "strata/types.hpp"

namespace strata::memory {

enum class Residence : std::uint8_t {
  kTouched,  ///< every page is faulted in at map time, by all cores (the hot path never faults)
  kLazy      ///< pages appear on first use, so unused budget costs no memory
};
enum class PageLock : std::uint8_t { kNone, kTry };

struct ArenaOptions {
  Bytes size;
  Residence residence = Residence::kTouched;
  PageLock page_lock = PageLock::kTry;
  int numa_node = -1;  ///< -1: no binding
};

/// Anonymous memory with transparent huge pages (MADV_HUGEPAGE), MADV_DONTFORK, bound with mbind where asked.
/// Move-only; unmaps in the destructor. 2 MiB aligned; the size is rounded up to 4 KiB. With kLazy, pages are locked as
/// they appear. Map it before the hot path: kTouched takes about 0.2 s per GiB and core.
class Arena {
 public:
  [[nodiscard]] static Result<Arena> map(const ArenaOptions& options);

  Arena() = default;
  Arena(Arena&&) noexcept;
  Arena& operator=(Arena&&) noexcept;
  ~Arena();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] Bytes size() const noexcept { return size_; }
  /// What the arena could not have (memlock limit, no huge pages), each with the command that mends it. Empty: all
  /// well.
  [[nodiscard]] const std::vector<std::string>& shortfalls() const noexcept { return shortfalls_; }

 private:
  void unmap() noexcept;

  std::byte* data_ = nullptr;
  Bytes size_;
  std::vector<std::string> shortfalls_;
};

}  // namespace strata::memory
