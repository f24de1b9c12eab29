// Fixed-width little-endian fields of the store's on-disk structures, written and read in order.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include <xxhash.h>

#include "base/check.hpp"
#include "strata/types.hpp"

namespace strata::tiers {

static_assert(std::endian::native == std::endian::little, "the store's format is little-endian");

/// XXH3-64, seed 0.
[[nodiscard]] inline std::uint64_t checksum(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

/// Zeroed bytes at an address that O_DIRECT accepts.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(Bytes size) : size_(round_up(size, kBlockAlignment)) {
    data_.reset(static_cast<std::byte*>(std::aligned_alloc(kBlockAlignment.value, size_.value)));
    STRATA_CHECK(data_ != nullptr || size_.value == 0, "out of memory");
    clear();
  }

  void clear() {
    if (data_) std::memset(data_.get(), 0, size_.value);
  }
  [[nodiscard]] std::byte* data() { return data_.get(); }
  [[nodiscard]] Bytes size() const { return size_; }
  [[nodiscard]] std::span<std::byte> bytes() { return {data_.get(), size_.value}; }

 private:
  struct Free {
    void operator()(std::byte* p) const noexcept { std::free(p); }
  };
  Bytes size_;
  std::unique_ptr<std::byte, Free> data_;
};

/// Aborts when the fields do not fit: sizes are ours.
class ByteWriter {
 public:
  explicit ByteWriter(std::span<std::byte> out) : out_(out) {}

  template <class T>
  requires std::is_integral_v<T>
  void put(T value) { put_bytes(std::as_bytes(std::span(&value, 1))); }
  void put_bytes(std::span<const std::byte> bytes) {
    STRATA_CHECK(bytes.size() <= out_.size() - at_, "an on-disk structure outgrew its place");
    std::copy(bytes.begin(), bytes.end(), out_.begin() + static_cast<std::ptrdiff_t>(at_));
    at_ += bytes.size();
  }
  /// `width` bytes: the text, cut or padded with zeros.
  void put_text(std::string_view text, std::size_t width) {
    text = text.substr(0, width);
    put_bytes(std::as_bytes(std::span(text)));
    skip(width - text.size());
  }
  /// Leaves what is there (zeros).
  void skip(std::size_t bytes) {
    STRATA_CHECK(bytes <= out_.size() - at_, "an on-disk structure outgrew its place");
    at_ += bytes;
  }
  [[nodiscard]] std::size_t position() const { return at_; }

 private:
  std::span<std::byte> out_;
  std::size_t at_ = 0;
};

/// Reading past the end gives zeros and makes ok() false: the bytes come from a disk and may be anything.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> in) : in_(in) {}

  template <class T>
  requires std::is_integral_v<T>
  [[nodiscard]] T take() {
    T value = 0;
    if (const auto bytes = take_bytes(sizeof value); !bytes.empty()) std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  [[nodiscard]] std::string take_text(std::size_t width) {
    const auto bytes = take_bytes(width);
    const auto end = std::find(bytes.begin(), bytes.end(), std::byte{0});
    return std::string(reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(end - bytes.begin()));
  }
  std::span<const std::byte> take_bytes(std::size_t size) {
    if (size > in_.size() - at_) {
      ok_ = false;
      return {};
    }
    at_ += size;
    return in_.subspan(at_ - size, size);
  }
  [[nodiscard]] bool ok() const { return ok_; }

 private:
  std::span<const std::byte> in_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace strata::tiers
