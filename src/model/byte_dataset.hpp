// Text files read as bytes: the vocabulary is 256, a sample is a window of `sequence` bytes and the byte after each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "base/result.hpp"

namespace strata::model {

/// A file mapped read-only for as long as the object lives.
class MappedFile {
 public:
  [[nodiscard]] static Result<MappedFile> open(const std::filesystem::path& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  [[nodiscard]] std::span<const std::uint8_t> bytes() const noexcept { return {data_, size_}; }

 private:
  MappedFile(const std::uint8_t* data, std::size_t size) noexcept : data_(data), size_(size) {}

  const std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
};

/// All files end to end, cut into windows that don't overlap. Files are mapped, so the page cache holds them, not the
/// budget. Immutable after open; any thread may read.
class ByteDataset {
 public:
  /// Paths are files or folders. Folders are walked recursively in bytewise order of their paths; hidden entries, links
  /// to folders, empty files and files that look binary are skipped. A file that is named itself is always taken.
  /// kUsage: no path, a missing path, no text at all, or less text than one window needs.
  [[nodiscard]] static Result<ByteDataset> open(const std::vector<std::filesystem::path>& paths, std::int64_t sequence);

  [[nodiscard]] std::int64_t sequence() const noexcept { return sequence_; }
  [[nodiscard]] std::uint64_t windows() const noexcept { return windows_; }  ///< samples per epoch, at least 1
  [[nodiscard]] std::uint64_t total_bytes() const noexcept { return total_; }
  [[nodiscard]] std::size_t files() const noexcept { return files_.size(); }

  /// Entropy of single bytes in nats: the loss of the best model that ignores context.
  [[nodiscard]] double unigram_entropy() const noexcept { return unigram_entropy_; }

  /// Changes with the names, sizes, order or (sampled) content of the files, and with the sequence length.
  [[nodiscard]] std::uint64_t fingerprint() const noexcept { return fingerprint_; }

  /// The window that sample `index` shows: index / windows() is the epoch, and each epoch visits every window once in an
  /// order of its own. A pure function of (seed, index).
  [[nodiscard]] std::uint64_t window_of(std::uint64_t index, std::uint64_t seed) const;

  /// Sample `index`; both spans have sequence() elements, and targets[i] is the byte after ids[i].
  void sample(std::uint64_t index, std::uint64_t seed, std::span<std::int64_t> ids,
              std::span<std::int64_t> targets) const;

 private:
  struct File {
    std::uint64_t begin;  ///< position of its first byte in the concatenation
    MappedFile map;
  };

  ByteDataset() = default;

  std::vector<File> files_;
  std::int64_t sequence_ = 0;
  std::uint64_t windows_ = 0;
  std::uint64_t total_ = 0;
  double unigram_entropy_ = 0.0;
  std::uint64_t fingerprint_ = 0;
};

}  // namespace strata::model
