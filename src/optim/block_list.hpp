// Pieces of any size as one numbered list of blocks, so that threads can share the work of many small pieces.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace strata::optim {

struct BlockRange {
  std::size_t piece;
  std::size_t first;  ///< element within the piece
  std::size_t n;
};

class BlockList {
 public:
  void clear() {
    starts_.assign(1, 0);
    sizes_.clear();
  }

  void add(std::size_t elements, std::size_t block) {
    starts_.push_back(starts_.back() + (elements + block - 1) / block);
    sizes_.push_back(elements);
  }

  [[nodiscard]] std::size_t blocks() const { return starts_.back(); }
  [[nodiscard]] std::size_t first_block_of(std::size_t piece) const { return starts_[piece]; }

  [[nodiscard]] std::size_t piece_of(std::size_t block) const {
    return static_cast<std::size_t>(std::upper_bound(starts_.begin(), starts_.end(), block) - starts_.begin()) - 1;
  }

  /// Calls `body(index of the block, BlockRange)` for the blocks [begin, end).
  template <class Body>
  void visit(std::size_t begin, std::size_t end, std::size_t block, Body body) const {
    if (begin == end) return;
    std::size_t piece = piece_of(begin);
    for (std::size_t index = begin; index < end; ++index) {
      while (index >= starts_[piece + 1]) ++piece;  // empty pieces have no blocks
      const std::size_t first = (index - starts_[piece]) * block;
      body(index, BlockRange{piece, first, std::min(block, sizes_[piece] - first)});
    }
  }

 private:
  std::vector<std::size_t> starts_{0};  // starts_[i] = number of the first block of piece i; one more at the end
  std::vector<std::size_t> sizes_;
};

}  // namespace strata::optim
