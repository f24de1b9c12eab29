#include "model/byte_dataset.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <xxhash.h>

#include "base/check.hpp"
#include "model/permutation.hpp"

namespace strata::model {
namespace {

constexpr std::uint64_t kScanBlock = 64 << 10;

double entropy_of(const std::array<std::uint64_t, 256>& counts) {
  double total = 0.0;
  for (const auto count : counts) total += static_cast<double>(count);
  double entropy = 0.0;
  for (const auto count : counts) {
    if (count == 0) continue;
    const double share = static_cast<double>(count) / total;
    entropy -= share * std::log(share);
  }
  return entropy;
}

std::string joined(const std::vector<std::filesystem::path>& paths) {
  std::string text;
  for (const auto& path : paths) text += (text.empty() ? "" : ", ") + path.string();
  return text;
}

class Fingerprint {
 public:
  Fingerprint() : state_(XXH3_createState()) {
    STRATA_CHECK(state_ != nullptr && XXH3_64bits_reset(state_.get()) == XXH_OK, "no memory for a hash");
  }
  void add(const void* data, std::size_t size) {
    STRATA_CHECK(XXH3_64bits_update(state_.get(), data, size) == XXH_OK, "hash of the data");
  }
  void add(std::uint64_t value) { add(&value, sizeof value); }
  [[nodiscard]] std::uint64_t value() const { return XXH3_64bits_digest(state_.get()); }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_;
};

}  // namespace

Result<ByteDataset> ByteDataset::open(const std::vector<std::filesystem::path>& paths, std::int64_t sequence) {
  if (sequence < 1) {
    return fail(ErrorCode::kUsage, fmt::format("data: sequence length {} is not positive", sequence));
  }
  ByteDataset data;
  data.sequence_ = sequence;
  STRATA_ASSIGN(data.files_, find_text_files(paths));
  for (const auto& file : data.files_) {
    data.begins_.push_back(data.total_);
    data.total_ += file.size;
  }
  if (data.total_ == 0) {
    return fail(ErrorCode::kUsage, fmt::format("data: no text in {}", joined(paths)),
                "give files that are not empty, or folders with text files");
  }
  data.windows_ = (data.total_ - 1) / static_cast<std::uint64_t>(sequence);
  if (data.windows_ == 0) {
    return fail(ErrorCode::kUsage,
                fmt::format("data: {} bytes of text are less than one sample of {} bytes", data.total_, sequence + 1),
                "give more data or a smaller --sequence");
  }
  STRATA_TRY(data.scan());
  return data;
}

Status ByteDataset::scan() {
  const std::uint64_t stride = kScanBlock * std::max<std::uint64_t>(1, (total_ + kScanBytes - 1) / kScanBytes);
  std::array<std::uint64_t, 256> counts{};
  std::vector<std::uint8_t> block;
  Fingerprint hash;
  hash.add(static_cast<std::uint64_t>(sequence_));
  for (const auto& file : files_) {
    hash.add(file.name.size());
    hash.add(file.name.data(), file.name.size());
    hash.add(file.size);
    for (std::uint64_t offset = 0; offset < file.size; offset += stride) {
      block.resize(std::min(kScanBlock, file.size - offset));
      STRATA_TRY(read_file_at(file.path, offset, block));
      hash.add(block.data(), block.size());
      for (const auto byte : block) ++counts[byte];
    }
  }
  unigram_entropy_ = entropy_of(counts);
  fingerprint_ = hash.value();
  return {};
}

std::uint64_t ByteDataset::window_of(std::uint64_t index, std::uint64_t seed) const {
  const std::uint64_t epoch = index / windows_;
  return permute(index % windows_, windows_, mix64(mix64(seed) ^ epoch));
}

Status ByteDataset::read_at(std::uint64_t position, std::span<std::uint8_t> out) const {
  auto file = static_cast<std::size_t>(std::ranges::upper_bound(begins_, position) - begins_.begin()) - 1;
  while (!out.empty()) {
    const std::uint64_t offset = position - begins_[file];
    const auto part = out.first(std::min<std::uint64_t>(out.size(), files_[file].size - offset));
    STRATA_TRY(read_file_at(files_[file].path, offset, part));
    out = out.subspan(part.size());
    position += part.size();
    ++file;
  }
  return {};
}

Status ByteDataset::sample(std::uint64_t index, std::uint64_t seed, std::span<std::int64_t> ids,
                           std::span<std::int64_t> targets) const {
  const auto length = static_cast<std::size_t>(sequence_);
  STRATA_CHECK(ids.size() == length && targets.size() == length, "a sample has `sequence` ids and targets");
  std::vector<std::uint8_t> bytes(length + 1);
  STRATA_TRY(read_at(window_of(index, seed) * length, bytes));
  for (std::size_t i = 0; i < length; ++i) {
    ids[i] = bytes[i];
    targets[i] = bytes[i + 1];
  }
  return {};
}

}  // namespace strata::model
