// Digests against values that the Python xxhash module computed from the words of docs/formats.md.
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "formats/state_digest.hpp"
#include "formats/xxh3.hpp"

namespace strata::formats {
namespace {

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

TEST(Xxh3Test, KnownValuesInAnyPieces) {
  EXPECT_EQ(to_hex(Xxh3().digest()), "99aa06d3014798d86001c324468d497f");
  std::vector<std::uint8_t> data(100'000);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::uint8_t>(i * 7 + 3);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{255}, std::size_t{4096}, data.size()}) {
    Xxh3 hash;
    for (std::size_t at = 0; at < data.size(); at += piece) hash.update(&data[at], std::min(piece, data.size() - at));
    EXPECT_EQ(to_hex(hash.digest()), "d9e155dd16e141d00c056f6fcc340974") << piece;
  }
}

TEST(StateDigestTest, KnownRecordsAndTotal) {
  StateDigest digest;
  const std::vector<float> master = {1.0f, -2.5f, 3e-5f};
  digest.begin({"b.weight", StateKind::kMaster, DType::kFloat32, 3, 7});
  digest.update(bytes_of(master).first(5));
  digest.update(bytes_of(master).subspan(5));
  EXPECT_EQ(to_hex(digest.end()), "52f8113990c258e6c51c0b953b9c9ff5");
  const std::vector<float> moment = {0.0f, 0.5f, 0.25f};
  digest.begin({"b.weight", StateKind::kExpAvg, DType::kFloat32, 3, 7});
  digest.update(bytes_of(moment));
  EXPECT_EQ(to_hex(digest.end()), "66e98b04285c468a0440cd012825335c");
  const std::vector<std::uint16_t> bf16 = {0x3f80, 0xc000};
  digest.begin({"\xc3\xa9", StateKind::kMaster, DType::kBFloat16, 2, 7});
  digest.update(bytes_of(bf16));
  EXPECT_EQ(to_hex(digest.end()), "874023c512260d0c768d349d2dff2b43");
  EXPECT_EQ(digest.finish(), "24de74d98011e8367565d71b84438801");
}

TEST(StateDigestTest, EveryFieldCounts) {
  const std::vector<float> master = {1.0f};
  const auto with = [&](const TensorRecord& record) {
    StateDigest digest;
    digest.begin(record);
    digest.update(bytes_of(master));
    (void)digest.end();
    return digest.finish();
  };
  const TensorRecord base = {"w", StateKind::kMaster, DType::kFloat32, 1, 7};
  std::vector<TensorRecord> others(5, base);
  others[0].name = "v";
  others[1].kind = StateKind::kExpAvgSq;
  others[2].dtype = DType::kFloat16;
  others[3].numel = 2;
  others[4].applied_steps = 8;
  for (const TensorRecord& other : others) EXPECT_NE(with(other), with(base));
  EXPECT_EQ(with(base), with(base));
}

}  // namespace
}  // namespace strata::formats
