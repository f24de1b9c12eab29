// Text files read as bytes: the vocabulary is 256, a sample is a window of `sequence` bytes and the byte after each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "model/text_files.hpp"

namespace strata::model {

/// All files end to end, cut into windows that don't overlap. Content stays in the files and the page cache: a sample
/// is read when it is asked for, so a corpus of any size costs only the table of its files. Immutable after open; any
/// thread may read.
class ByteDataset {
 public:
  /// At most about this much is read by open() for the entropy and the fingerprint.
  static constexpr std::uint64_t kScanBytes = std::uint64_t{256} << 20;

  /// Paths are files or folders; what a folder gives is said at find_text_files().
  /// kUsage: no path, a missing path, no text at all, less text than one window needs; kIo: something can't be read.
  [[nodiscard]] static Result<ByteDataset> open(const std::vector<std::filesystem::path>& paths, std::int64_t sequence);

  [[nodiscard]] std::int64_t sequence() const noexcept { return sequence_; }
  [[nodiscard]] std::uint64_t windows() const noexcept { return windows_; }  ///< samples per epoch, at least 1
  [[nodiscard]] std::uint64_t total_bytes() const noexcept { return total_; }
  [[nodiscard]] std::size_t files() const noexcept { return files_.size(); }

  /// Entropy of single bytes in nats: the loss of the best model that ignores context. From a sample of the blocks when
  /// the corpus is larger than kScanBytes.
  [[nodiscard]] double unigram_entropy() const noexcept { return unigram_entropy_; }

  /// Changes with the names, sizes, order or (scanned) content of the files, and with the sequence length.
  [[nodiscard]] std::uint64_t fingerprint() const noexcept { return fingerprint_; }

  /// The window that sample `index` shows: index / windows() is the epoch, and each epoch visits every window once in
  /// an order of its own. A pure function of (seed, index).
  [[nodiscard]] std::uint64_t window_of(std::uint64_t index, std::uint64_t seed) const;

  /// Sample `index`; both spans have sequence() elements, and targets[i] is the byte after ids[i].
  /// kIo: a file is gone, unreadable or shorter than it was.
  [[nodiscard]] Status sample(std::uint64_t index, std::uint64_t seed, std::span<std::int64_t> ids,
                              std::span<std::int64_t> targets) const;

 private:
  ByteDataset() = default;

  [[nodiscard]] Status scan();
  [[nodiscard]] Status read_at(std::uint64_t position, std::span<std::uint8_t> out) const;

  std::vector<TextFile> files_;
  std::vector<std::uint64_t> begins_;  ///< position of each file's first byte in the concatenation
  std::int64_t sequence_ = 0;
  std::uint64_t windows_ = 0;
  std::uint64_t total_ = 0;
  double unigram_entropy_ = 0.0;
  std::uint64_t fingerprint_ = 0;
};

}  // namespace strata::model
