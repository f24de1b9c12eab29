#include "tiers/store_layout.hpp"

#include <algorithm>
#include <numeric>

#include "base/check.hpp"
#include "tiers/generation_table.hpp"
#include "tiers/store_header.hpp"

namespace strata::tiers {
namespace {

/// Hands out what follows in a file.
class Cursor {
 public:
  Area take(Bytes bytes) {
    const Area area{at_, round_up(bytes, kBlockAlignment)};
    at_ = area.end();
    return area;
  }
  [[nodiscard]] Offset at() const { return at_; }

 private:
  Offset at_;
};

Bytes generation_capacity(std::span<const StoreObject> objects) {
  std::uint64_t blocks = 0;
  for (const StoreObject& object : objects) blocks += round_up(object.bytes, kChecksumBlock) / kChecksumBlock;
  return round_up(encoded_size(objects.size()) + Bytes(8) * blocks, kBlockAlignment) + kMetadataMax;
}

/// Filling the emptiest path first leaves paths at most one piece apart, so with one piece of slack on each every
/// sequence of pieces fits whose sum fits.
Bytes scratch_per_path(Bytes scratch, const ScratchSpread& spread) {
  const Bytes share = round_up(Bytes((scratch.value + spread.paths - 1) / spread.paths), kBlockAlignment);
  if (spread.paths == 1 || scratch.value == 0) return share;
  return share + round_up(spread.largest, kBlockAlignment);
}

}  // namespace

Bytes StoreLayout::total() const {
  return std::accumulate(paths.begin(), paths.end(), Bytes{},
                         [](Bytes sum, const PathLayout& path) { return sum + path.size; });
}

StoreLayout plan_layout(const LayoutInput& input) {
  STRATA_CHECK(input.spread.paths > 0 && input.slots > 0, "a store has at least one path and one slot");
  StoreLayout layout;
  std::vector<Cursor> cursors(input.spread.paths);
  for (Cursor& cursor : cursors) cursor.take(kHeaderBytes);
  for (Offset& root : layout.roots) root = cursors[0].take(kRootBytes).offset;
  // Where the directory begins depends on nothing, so that it is found when the objects differ.
  layout.directory = cursors[0].take(directory_size(input.objects.size()));
  for (Area& area : layout.generations) area = cursors[0].take(generation_capacity(input.objects));

  std::vector<Bytes> filled(cursors.size());
  layout.places.reserve(input.objects.size());
  for (const StoreObject& object : input.objects) {
    const auto emptiest = static_cast<std::size_t>(std::min_element(filled.begin(), filled.end()) - filled.begin());
    const Bytes bytes = round_up(object.bytes, kBlockAlignment);
    const Area area = cursors[emptiest].take(bytes * input.slots);
    filled[emptiest] += area.bytes;
    layout.places.push_back({PathId(static_cast<std::uint32_t>(emptiest)), area.offset, bytes});
  }
  for (Cursor& cursor : cursors) {
    PathLayout path;
    path.slots_end = cursor.at();
    path.scratch = cursor.take(scratch_per_path(input.scratch, input.spread));
    path.size = cursor.at() - Offset{};
    layout.paths.push_back(path);
  }
  return layout;
}

}  // namespace strata::tiers
