// Objects, options and bytes for tests of the state store.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "io/engine.hpp"
#include "support/scratch_folder.hpp"
#include "tiers/state_store.hpp"
#include "tiers/store_bytes.hpp"
#include "tiers/store_files.hpp"

namespace strata::testing {

inline const std::string kRunId = "0123456789abcdef0123456789abcdef";

[[nodiscard]] inline std::vector<tiers::StoreObject> some_objects() {
  return {{"embedding/0/parameter", Bytes(10'000)},
          {"block.0/0/parameter", Bytes(4096)},
          {"block.0/0/optimizer/0", Bytes(20'000)},
          {"head/0/parameter", Bytes(1)}};
}

/// A folder with `count` paths in it.
class StorePaths {
 public:
  explicit StorePaths(std::size_t count = 1) {
    for (std::size_t i = 0; i < count; ++i) {
      paths_.push_back(folder_.path() / ("path" + std::to_string(i)));
      std::filesystem::create_directory(paths_.back());
    }
  }
  [[nodiscard]] tiers::StoreOptions options() const {
    tiers::StoreOptions options;
    options.run_id = kRunId;
    options.paths = paths_;
    options.lock_patience_s = 0;
    return options;
  }
  [[nodiscard]] const std::filesystem::path& operator[](std::size_t i) const { return paths_[i]; }
  [[nodiscard]] std::filesystem::path file(std::size_t i = 0) const { return tiers::data_file(paths_[i], kRunId); }
  /// True when no path holds anything.
  [[nodiscard]] bool empty() const {
    for (const auto& path : paths_) {
      if (!std::filesystem::is_empty(path)) return false;
    }
    return true;
  }

 private:
  test::ScratchFolder folder_;
  std::vector<std::filesystem::path> paths_;
};

/// Fills with bytes that tell keys and positions apart.
inline void fill_with(std::uint64_t key, std::span<std::byte> bytes) {
  std::uint64_t state = key * 0x9e3779b97f4a7c15u + 1;
  for (std::size_t i = 0; i < bytes.size(); i += sizeof state) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(bytes.data() + i, &state, std::min(sizeof state, bytes.size() - i));
  }
}

[[nodiscard]] inline Status write_extent(io::Engine& engine, const tiers::DiskExtent& extent, std::uint64_t key) {
  tiers::AlignedBuffer buffer(extent.bytes);
  fill_with(key, buffer.bytes());
  return io::transfer(engine, io::Op::kWrite, extent.file, extent.offset, buffer.data(), extent.bytes);
}

[[nodiscard]] inline ::testing::AssertionResult extent_holds(io::Engine& engine, const tiers::DiskExtent& extent,
                                                             std::uint64_t key) {
  tiers::AlignedBuffer found(extent.bytes);
  tiers::AlignedBuffer expected(extent.bytes);
  fill_with(key, expected.bytes());
  const Status status = io::transfer(engine, io::Op::kRead, extent.file, extent.offset, found.data(), extent.bytes);
  if (!status) return ::testing::AssertionFailure() << to_string(status.error());
  if (std::memcmp(found.data(), expected.data(), extent.bytes.value) != 0) {
    return ::testing::AssertionFailure() << "other bytes than those of key " << key;
  }
  return ::testing::AssertionSuccess();
}

/// A whole version of an object.
[[nodiscard]] inline Status put(tiers::StateStore& store, io::Engine& engine, tiers::StoreId id, std::uint64_t key) {
  STRATA_ASSIGN(const tiers::DiskExtent extent, store.begin_write(id));
  STRATA_TRY(write_extent(engine, extent, key));
  store.end_write(id);
  return {};
}

/// All objects of a step, committed and durable. Object i holds key step * 100 + i.
[[nodiscard]] inline Status put_step(tiers::StateStore& store, io::Engine& engine, std::uint64_t step) {
  for (std::uint32_t i = 0; i < store.objects().size(); ++i) {
    STRATA_TRY(put(store, engine, tiers::StoreId(i), step * 100 + i));
  }
  STRATA_TRY(store.commit(step, "{\"step\":" + std::to_string(step) + "}"));
  return store.wait_durable();
}

inline void expect_step(tiers::StateStore& store, io::Engine& engine, std::uint64_t step) {
  EXPECT_EQ(store.durable().step, step);
  for (std::uint32_t i = 0; i < store.objects().size(); ++i) {
    const auto extent = store.newest(tiers::StoreId(i));
    ASSERT_TRUE(extent) << "object " << i;
    EXPECT_TRUE(extent_holds(engine, *extent, step * 100 + i)) << "object " << i;
  }
}

[[nodiscard]] inline std::unique_ptr<io::Engine> threads_engine() {
  return io::open_engine({.kind = io::EngineKind::kThreads, .threads = 2, .report = {}}).value();
}

}  // namespace strata::testing
