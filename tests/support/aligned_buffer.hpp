// Bytes that O_DIRECT accepts, and a way to fill them so that a misplaced block is noticed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "base/check.hpp"
#include "strata/types.hpp"

namespace strata::testing {

class AlignedBuffer {
 public:
  explicit AlignedBuffer(std::uint64_t size)
      : data_(static_cast<std::byte*>(std::aligned_alloc(4096, round_up(std::max<std::uint64_t>(size, 1), 4096)))),
        size_(size) {
    STRATA_CHECK(data_ != nullptr, "no memory for a test");
    std::fill_n(data_.get(), size_, std::byte{0xEE});
  }

  [[nodiscard]] std::byte* data() const { return data_.get(); }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] std::span<std::byte> bytes() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* data) const { std::free(data); }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::uint64_t size_;
};

/// Every 8 bytes name their place in the file and the version, so that no two blocks are equal.
inline void fill_pattern(std::span<std::byte> bytes, std::uint64_t file_offset, std::uint64_t version) {
  for (std::uint64_t i = 0; i < bytes.size(); ++i) {
    const std::uint64_t word = ((file_offset + i) / 8 + 1) * 0x9E3779B97F4A7C15u ^ (version * 0xD1B54A32D192ED03u);
    bytes[i] = static_cast<std::byte>(word >> (8 * ((file_offset + i) % 8)));
  }
}

[[nodiscard]] inline bool has_pattern(std::span<const std::byte> bytes, std::uint64_t file_offset,
                                      std::uint64_t version) {
  AlignedBuffer expected(bytes.size());
  fill_pattern(expected.bytes(), file_offset, version);
  return std::equal(bytes.begin(), bytes.end(), expected.bytes().begin());
}

}  // namespace strata::testing
