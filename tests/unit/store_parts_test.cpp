// The pure parts of the store: placement, records, the ledger of slots.
#include <algorithm>
#include <random>

#include <gtest/gtest.h>

#include "support/seed.hpp"
#include "tiers/generation_table.hpp"
#include "tiers/root_record.hpp"
#include "tiers/slot_ledger.hpp"
#include "tiers/store_bytes.hpp"
#include "tiers/store_layout.hpp"

namespace strata::tiers {
namespace {

std::vector<StoreObject> objects_of(const std::vector<std::uint64_t>& sizes) {
  std::vector<StoreObject> objects;
  for (const std::uint64_t size : sizes) objects.push_back({"o" + std::to_string(objects.size()), Bytes(size)});
  return objects;
}

TEST(StoreLayoutTest, EverythingHasItsOwnPlace) {
  std::mt19937_64 random(testing::test_seed());
  for (int round = 0; round < 50; ++round) {
    std::vector<std::uint64_t> sizes(random() % 20);
    for (auto& size : sizes) size = random() % 3'000'000;
    const auto objects = objects_of(sizes);
    const auto slots = static_cast<std::uint32_t>(1 + random() % 4);
    const StoreLayout layout =
        plan_layout({objects, slots, Bytes(random() % 100'000), {1 + random() % 3, Bytes(5000)}});
    std::vector<std::vector<Area>> areas(layout.paths.size());
    for (auto& path : areas) path.push_back({Offset{}, kHeaderBytes});
    for (const Offset root : layout.roots) areas[0].push_back({root, kRootBytes});
    for (const Area& area : layout.generations) areas[0].push_back(area);
    areas[0].push_back(layout.directory);
    for (std::size_t i = 0; i < objects.size(); ++i) {
      const ObjectPlace& place = layout.places[i];
      EXPECT_GE(place.bytes, objects[i].bytes);
      for (std::uint32_t s = 0; s < slots; ++s) areas[place.path.value].push_back({place.slot(s), place.bytes});
    }
    for (std::size_t p = 0; p < areas.size(); ++p) {
      for (const Area& area : areas[p]) EXPECT_LE(area.end(), layout.paths[p].slots_end);
      areas[p].push_back(layout.paths[p].scratch);
      std::sort(areas[p].begin(), areas[p].end(), [](const Area& a, const Area& b) {
        return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
      });
      Offset at;
      for (const Area& area : areas[p]) {
        EXPECT_EQ(area.offset, at) << "a hole or an overlap on path " << p;
        EXPECT_EQ(area.offset.value % kBlockAlignment.value, 0u);
        at = area.end();
      }
      EXPECT_EQ(at - Offset{}, layout.paths[p].size);
    }
  }
}

TEST(StoreLayoutTest, PathsAreBalancedByBytes) {
  const auto objects = objects_of({900'000, 300'000, 300'000, 300'000, 100'000, 90'000});
  const StoreLayout layout = plan_layout({objects, 2, {}, {2, {}}});
  const auto path_of = [&](std::size_t i) { return layout.places[i].path.value; };
  EXPECT_EQ(path_of(0), 0u);
  EXPECT_EQ(path_of(1), 1u);
  EXPECT_EQ(path_of(2), 1u);
  EXPECT_EQ(path_of(3), 1u);
}

TEST(StoreLayoutTest, ScratchDoesNotMoveTheRest) {
  const auto objects = objects_of({900'000, 300'000});
  const StoreLayout small = plan_layout({objects, 2, Bytes(4096), {}});
  const StoreLayout large = plan_layout({objects, 2, Bytes(1u << 30), {}});
  EXPECT_EQ(small.paths[0].slots_end, large.paths[0].slots_end);
  EXPECT_EQ(small.places[1].first, large.places[1].first);
}

TEST(StoreLayoutTest, GenerationAreasHaveRoomForAChecksumPerBlock) {
  const auto objects = objects_of({100ull << 30});
  const StoreLayout layout = plan_layout({objects, 2, {}, {}});
  const std::uint64_t blocks = (100ull << 30) / kChecksumBlock.value;
  EXPECT_GE(layout.generations[0].bytes, encoded_size(1) + kMetadataMax + Bytes(8 * blocks));
}

RootRecord some_root() {
  RootRecord root;
  root.run_id = std::string(32, 'b');
  root.sequence = 11;
  root.generation = 5;
  root.step = 50;
  root.unix_s = 1'700'000'000;
  root.state = RootState::kDirty;
  root.table = {Offset(4096), Bytes(77), 0xabcdef};
  root.metadata = {Offset(8192), Bytes(13), 0x123456789abcdef0};
  return root;
}

TEST(RootRecordTest, RoundTrips) {
  AlignedBuffer buffer(kRootBytes);
  encode(some_root(), buffer.bytes());
  const auto decoded = decode_root(buffer.bytes(), std::string(32, 'b'));
  ASSERT_TRUE(decoded) << to_string(decoded.error());
  EXPECT_EQ(*decoded, some_root());
}

TEST(RootRecordTest, EveryFlippedBitIsNoticed) {
  AlignedBuffer buffer(kRootBytes);
  encode(some_root(), buffer.bytes());
  for (std::size_t byte = 0; byte < kRootBytes.value; byte += byte < 256 ? 1 : 97) {
    for (int bit = 0; bit < 8; ++bit) {
      buffer.bytes()[byte] ^= std::byte(1 << bit);
      EXPECT_FALSE(decode_root(buffer.bytes(), std::string(32, 'b'))) << byte << ":" << bit;
      buffer.bytes()[byte] ^= std::byte(1 << bit);
    }
  }
}

TEST(RootRecordTest, AnySubsetOfSectorsOfTwoRootsIsOneOfThemOrNone) {
  AlignedBuffer older(kRootBytes);
  AlignedBuffer newer(kRootBytes);
  RootRecord root = some_root();
  encode(root, older.bytes());
  root.sequence += 2;
  root.generation += 2;
  encode(root, newer.bytes());
  for (unsigned mask = 0; mask < 256; ++mask) {
    AlignedBuffer mixed(kRootBytes);
    for (std::size_t sector = 0; sector < 8; ++sector) {
      const auto from = ((mask >> sector) & 1) != 0 ? newer.bytes() : older.bytes();
      std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(sector * 512), 512,
                  mixed.bytes().begin() + static_cast<std::ptrdiff_t>(sector * 512));
    }
    const auto decoded = decode_root(mixed.bytes(), std::string(32, 'b'));
    EXPECT_TRUE(!decoded || *decoded == root || *decoded == some_root());
  }
}

TEST(RootRecordTest, OtherVersionsRunsAndZerosAreRefused) {
  AlignedBuffer buffer(kRootBytes);
  EXPECT_FALSE(decode_root(buffer.bytes(), std::string(32, 'b')));
  encode(some_root(), buffer.bytes());
  const auto foreign = decode_root(buffer.bytes(), std::string(32, 'c'));
  ASSERT_FALSE(foreign);
  EXPECT_NE(foreign.error().message.find("of run bbb"), std::string::npos);
  buffer.bytes()[8] = std::byte{9};
  const auto version = decode_root(buffer.bytes(), std::string(32, 'b'));
  ASSERT_FALSE(version);
  EXPECT_NE(version.error().message.find("version 9, this program reads 1"), std::string::npos);
}

TEST(GenerationTableTest, RoundTripsAndRefusesOthers) {
  GenerationTable table;
  table.generation = 9;
  table.sequence = 12;
  table.entries = {{0, 8}, {kUnwritten, 0}, {2, 9}};
  std::vector<std::byte> bytes(encoded_size(3).value);
  encode(table, bytes);
  const auto decoded = decode_table(bytes, {.objects = 3, .slots = 3});
  ASSERT_TRUE(decoded) << to_string(decoded.error());
  EXPECT_EQ(*decoded, table);
  EXPECT_FALSE(decode_table(bytes, {.objects = 3, .slots = 2}));
  EXPECT_FALSE(decode_table(bytes, {.objects = 2, .slots = 3}));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(decode_table(std::span(bytes).first(size), {.objects = 3, .slots = 3}));
  }
  bytes[8] = std::byte{4};
  const auto version = decode_table(bytes, {.objects = 3, .slots = 3});
  ASSERT_FALSE(version);
  EXPECT_NE(version.error().message.find("version 4"), std::string::npos);
}

// The invariant of slot_ledger.hpp, checked from outside on random programs.
TEST(SlotLedgerTest, ReferencedSlotsAreNeverGivenOut) {
  std::mt19937_64 random(testing::test_seed());
  for (int round = 0; round < 200; ++round) {
    const auto slots = static_cast<std::uint32_t>(2 + random() % 3);
    GenerationTable empty;
    empty.entries.resize(3);
    SlotLedger ledger(slots, empty, SlotReuse::kAfterDurable);
    std::optional<GenerationTable> committing;
    for (int i = 0; i < 100; ++i) {
      const StoreId id(static_cast<std::uint32_t>(random() % 3));
      switch (random() % 6) {
        case 0:
          if (!committing && !ledger.blocks_commit()) committing = ledger.start_commit();
          break;
        case 1:
          if (committing) {
            ledger.finish_commit();
            EXPECT_EQ(ledger.durable(), *committing);
            committing.reset();
          }
          break;
        case 2:
          if (random() % 4 == 0) ledger.roll_back();
          break;
        default: {
          const auto slot = ledger.begin(id);
          if (slot) {
            EXPECT_LT(*slot, slots);
            EXPECT_NE(*slot, ledger.durable().entries[id.value].slot);
            EXPECT_FALSE(committing && *slot == committing->entries[id.value].slot);
            if (random() % 3 != 0) {
              ledger.end(id);
              EXPECT_EQ(ledger.newest(id), slot);
            }
          } else {
            EXPECT_EQ(slots, 2u);
            EXPECT_TRUE(committing);
          }
        }
      }
    }
  }
}

TEST(SlotLedgerTest, OpenWritesStayOutOfTheCommit) {
  GenerationTable empty;
  empty.entries.resize(2);
  SlotLedger ledger(2, empty, SlotReuse::kAfterDurable);
  const auto slot = ledger.begin(StoreId(0));
  EXPECT_EQ(ledger.start_commit().entries[0].slot, kUnwritten);
  EXPECT_EQ(ledger.begin(StoreId(0)), slot);
  ledger.finish_commit();
  ledger.end(StoreId(0));
  EXPECT_EQ(ledger.start_commit().entries[0].slot, slot);
}

TEST(SlotLedgerDeathTest, EndWithoutBeginAborts) {
  GenerationTable empty;
  empty.entries.resize(1);
  SlotLedger ledger(2, empty, SlotReuse::kAfterDurable);
  EXPECT_DEATH(ledger.end(StoreId(0)), "without begin_write");
}

}  // namespace
}  // namespace strata::tiers
