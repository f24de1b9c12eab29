// Byte data: which files count, every window once per epoch, and errors that name what is wrong.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/byte_dataset.hpp"
#include "model/permutation.hpp"
#include "support/scratch_folder.hpp"

namespace strata::model {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class ByteDatasetTest : public ::testing::Test {
 protected:
  fs::path write(const std::string& name, const std::string& text) {
    const auto file = folder_.path() / name;
    fs::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
    return file;
  }
  ByteDataset open(const std::vector<fs::path>& paths, std::int64_t sequence) {
    auto data = ByteDataset::open(paths, sequence);
    if (!data) throw std::runtime_error(to_string(data.error()));
    return *std::move(data);
  }
  void expect_error(const std::vector<fs::path>& paths, std::int64_t sequence, ErrorCode code,
                    const std::string& part) {
    const auto data = ByteDataset::open(paths, sequence);
    ASSERT_FALSE(data.has_value());
    EXPECT_EQ(data.error().code, code);
    EXPECT_THAT(to_string(data.error()), HasSubstr(part));
  }
  /// The text of window w, from the sample that shows it.
  static std::string window_text(const ByteDataset& data, std::uint64_t index, std::uint64_t seed) {
    std::vector<std::int64_t> ids(static_cast<std::size_t>(data.sequence())), targets(ids.size());
    const auto status = data.sample(index, seed, ids, targets);
    EXPECT_TRUE(status.has_value()) << (status ? "" : to_string(status.error()));
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) EXPECT_EQ(targets[i], ids[i + 1]);
    std::string text;
    for (const auto id : ids) text.push_back(static_cast<char>(id));
    text.push_back(static_cast<char>(targets.back()));
    return text;
  }

  test::ScratchFolder folder_;
};

TEST_F(ByteDatasetTest, ErrorsNameTheCause) {
  expect_error({}, 8, ErrorCode::kUsage, "no path");
  expect_error({folder_.path() / "absent"}, 8, ErrorCode::kUsage, "absent does not exist");
  expect_error({folder_.path()}, 8, ErrorCode::kUsage, "no text in");
  const auto empty = write("empty.txt", "");
  expect_error({empty}, 8, ErrorCode::kUsage, "no text in");
  const auto small = write("small.txt", "12345678");
  expect_error({small}, 8, ErrorCode::kUsage, "8 bytes of text are less than one sample of 9 bytes");
  expect_error({small}, 0, ErrorCode::kUsage, "sequence length 0");
  expect_error({"/dev/null"}, 8, ErrorCode::kUsage, "neither a file nor a folder");
}

TEST_F(ByteDatasetTest, ExactlyOneWindowIsEnough) {
  const auto data = open({write("a.txt", "123456789")}, 8);
  EXPECT_EQ(data.windows(), 1U);
  for (const std::uint64_t index : {0U, 1U, 7U}) EXPECT_EQ(window_text(data, index, 5), "123456789");
}

TEST_F(ByteDatasetTest, FolderGivesTextFilesInOrder) {
  write("b/2.txt", "second ");
  write("a.txt", "first ");
  write("b/sub/1.txt", "third ");
  write("b/empty.txt", "");
  write("b/image.png", std::string("\x89PNG\0\0\0\0", 8));
  write("b/control.bin", "\x01\x02\x03\x04\x05\x06 abc");
  write(".git/config", "hidden folder");
  write("b/.hidden", "hidden file");
  fs::create_symlink(folder_.path() / "a.txt", folder_.path() / "link.txt");
  fs::create_directory_symlink(folder_.path(), folder_.path() / "b/loop");
  const auto data = open({folder_.path()}, 18);
  EXPECT_EQ(data.files(), 3U);
  EXPECT_EQ(data.total_bytes(), 19U);
  EXPECT_EQ(window_text(data, 0, 1), "first second third ");
}

TEST_F(ByteDatasetTest, SamplesRunAcrossFilesInGivenOrder) {
  const auto a = write("a.txt", "abc"), b = write("b.txt", "d"), c = write("c.txt", "efghi");
  EXPECT_EQ(window_text(open({a, b, c}, 8), 0, 1), "abcdefghi");
  EXPECT_EQ(window_text(open({c, a, b}, 8), 0, 1), "efghiabcd");
}

TEST_F(ByteDatasetTest, AFileThatIsNamedIsTakenWhateverItHolds) {
  const auto binary = write(".hidden.bin", std::string("\0\1\2\3\377", 5));
  const auto text = window_text(open({binary}, 4), 0, 1);
  EXPECT_EQ(text, std::string("\0\1\2\3\377", 5).substr(0, 4) + "\377");
}

TEST_F(ByteDatasetTest, EachEpochShowsEveryWindowOnce) {
  std::string text(1001, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i * 7 % 26);
  const auto data = open({write("a.txt", text)}, 10);
  ASSERT_EQ(data.windows(), 100U);
  std::vector<std::vector<std::uint64_t>> epochs;
  for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
    auto& order = epochs.emplace_back();
    for (std::uint64_t i = 0; i < 100; ++i) order.push_back(data.window_of(epoch * 100 + i, 11));
    auto sorted = order;
    std::ranges::sort(sorted);
    for (std::uint64_t i = 0; i < 100; ++i) EXPECT_EQ(sorted[i], i);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  EXPECT_NE(data.window_of(0, 11) * 101 + data.window_of(1, 11), data.window_of(0, 12) * 101 + data.window_of(1, 12));
  for (std::uint64_t i : {0U, 57U, 99U}) {
    EXPECT_EQ(window_text(data, i, 11), text.substr(data.window_of(i, 11) * 10, 11)) << "a pure function of its index";
  }
}

TEST(PermutationTest, IsABijectionForAnySizeAndKey) {
  for (std::uint64_t size = 1; size < 300; ++size) {
    std::vector<bool> seen(size);
    for (std::uint64_t i = 0; i < size; ++i) {
      const auto image = permute(i, size, size * 77);
      ASSERT_LT(image, size);
      ASSERT_FALSE(seen[image]) << size;
      seen[image] = true;
    }
  }
}

TEST(PermutationTest, LooksRandom) {
  // A random permutation has about one fixed point, and neighbours land n / 3 apart on average.
  constexpr std::uint64_t kSize = 30000;
  double distance = 0;
  std::uint64_t fixed = 0;
  for (std::uint64_t i = 0; i + 1 < kSize; ++i) {
    const auto a = static_cast<double>(permute(i, kSize, 5)), b = static_cast<double>(permute(i + 1, kSize, 5));
    distance += std::abs(a - b) / static_cast<double>(kSize * kSize);
    fixed += permute(i, kSize, 5) == i ? 1U : 0U;
  }
  EXPECT_NEAR(distance, 1.0 / 3.0, 0.01);
  EXPECT_LE(fixed, 8U);
}

TEST_F(ByteDatasetTest, EntropyOfKnownShares) {
  EXPECT_NEAR(open({write("a.txt", std::string(4096, 'a'))}, 8).unigram_entropy(), 0.0, 1e-12);
  std::string four;
  for (int i = 0; i < 1000; ++i) four += "abcd";
  EXPECT_NEAR(open({write("b.txt", four)}, 8).unigram_entropy(), std::log(4.0), 1e-12);
}

TEST_F(ByteDatasetTest, FingerprintSeesNamesSizesContentAndOrder) {
  const auto a = write("a.txt", "some text here"), b = write("b.txt", "and more of it");
  const auto base = open({a, b}, 4).fingerprint();
  EXPECT_EQ(base, open({a, b}, 4).fingerprint());
  EXPECT_NE(base, open({b, a}, 4).fingerprint());
  EXPECT_NE(base, open({a, b}, 5).fingerprint());
  write("b.txt", "and more of iT");
  EXPECT_NE(base, open({a, b}, 4).fingerprint());
  write("b.txt", "and more of it");
  EXPECT_EQ(base, open({a, b}, 4).fingerprint());
  write("moved/a.txt", "some text here");
  write("moved/b.txt", "and more of it");
  EXPECT_EQ(base, open({folder_.path() / "moved/a.txt", folder_.path() / "moved/b.txt"}, 4).fingerprint());
}

TEST_F(ByteDatasetTest, AFileThatShrankOrWentAwayIsAnError) {
  const auto file = write("a.txt", std::string(100, 'x'));
  const auto data = open({file}, 99);
  std::vector<std::int64_t> ids(99), targets(99);
  write("a.txt", std::string(50, 'x'));
  auto status = data.sample(0, 1, ids, targets);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
  EXPECT_THAT(status.error().message, HasSubstr("a.txt ends at byte 50"));
  fs::remove(file);
  status = data.sample(0, 1, ids, targets);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().os_errno, ENOENT);
}

}  // namespace
}  // namespace strata::model
