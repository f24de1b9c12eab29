// safetensors files: bad ones first; then what the writer writes, read back here and by a Python script.
#include <array>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>

#include <gtest/gtest.h>

#include "formats/safetensors.hpp"
#include "formats/state_digest.hpp"
#include "support/scratch_folder.hpp"
#include "support/seed.hpp"

namespace strata::formats {
namespace {

namespace fs = std::filesystem;

class SafetensorsTest : public ::testing::Test {
 protected:
  [[nodiscard]] fs::path file() const { return folder_.path() / "state.safetensors"; }

  void write_raw(const std::string& header, std::size_t data_bytes) const {
    std::ofstream out(file(), std::ios::binary);
    const std::uint64_t length = header.size();
    out.write(reinterpret_cast<const char*>(&length), sizeof length);
    out << header << std::string(data_bytes, 'd');
  }

  void expect_damaged(const std::string& words) const {
    const auto header = read_safetensors_header(file());
    ASSERT_FALSE(header) << words;
    EXPECT_EQ(header.error().code, ErrorCode::kStore);
    EXPECT_NE(header.error().message.find(words), std::string::npos) << header.error().message;
    EXPECT_NE(header.error().message.find(file().string()), std::string::npos);
    EXPECT_FALSE(header.error().hint.empty());
  }

  /// Two parameters of three kinds; returns their state_digest.
  [[nodiscard]] std::string write_state() const {
    std::vector<TensorEntry> entries;
    for (const char* name : {"a.weight", "b"}) {
      for (const char* kind : {".master", ".exp_avg", ".exp_avg_sq"}) {
        entries.push_back({std::string(name) + kind, "F32", {3, 5}});
      }
    }
    auto writer = SafetensorsWriter::create(file(), entries, {{"applied_steps", "12"}});
    EXPECT_TRUE(writer);
    StateDigest digest;
    float next = 0.5f;
    for (const std::string_view name : {"a.weight", "b"}) {
      for (const StateKind kind : {StateKind::kMaster, StateKind::kExpAvg, StateKind::kExpAvgSq}) {
        std::array<float, 15> values{};
        for (float& value : values) value = next += 1.25f;
        digest.begin({name, kind, DType::kFloat32, values.size(), 12});
        digest.update(std::as_bytes(std::span(values)));
        (void)digest.end();
        EXPECT_TRUE(writer->append(std::as_bytes(std::span(values)).first(7)));
        EXPECT_TRUE(writer->append(std::as_bytes(std::span(values)).subspan(7)));
      }
    }
    const Status finished = writer->finish();
    EXPECT_TRUE(finished) << to_string(finished.error());
    return digest.finish();
  }

  test::ScratchFolder folder_;
};

TEST_F(SafetensorsTest, MissingFileIsAnIoError) {
  const auto header = read_safetensors_header(file());
  ASSERT_FALSE(header);
  EXPECT_EQ(header.error().code, ErrorCode::kIo);
}

TEST_F(SafetensorsTest, HeadersThatClaimTooMuch) {
  std::ofstream(file(), std::ios::binary) << "abc";
  expect_damaged("shorter than a header");
  for (const std::uint64_t length : {std::uint64_t{9}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    std::ofstream out(file(), std::ios::binary);
    out.write(reinterpret_cast<const char*>(&length), sizeof length);
    out << "{}      ";
    out.close();
    expect_damaged("claims");
  }
}

TEST_F(SafetensorsTest, HeadersThatAreNoHeaders) {
  for (const std::string text : {"", "{", "[]", "7", "{\"a\":3}", "{\"a\":{}}", "\xff\xfe",
                                 R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})",
                                 R"({"a":{"dtype":"F32","shape":"1","data_offsets":[0,4]}})",
                                 R"({"__metadata__":{"k":3}})", R"({"__metadata__":3})"}) {
    write_raw(text, 4);
    expect_damaged("is not a whole safetensors file");
  }
  write_raw(std::string(200'000, '['), 0);
  expect_damaged("is not a whole safetensors file");
}

TEST_F(SafetensorsTest, RangesThatDoNotFit) {
  write_raw(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4);
  expect_damaged("'a' does not suit");
  write_raw(R"({"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", 4);
  expect_damaged("'a' does not suit");
  write_raw(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4);
  expect_damaged("'a' does not suit");
  write_raw(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0);
  expect_damaged("'a' does not suit");
  write_raw(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}})", 8);
  expect_damaged("'a' does not suit");
  write_raw(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8);
  expect_damaged("before 'a'");
  write_raw(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
      8);
  expect_damaged("before 'b'");
  write_raw(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 3);
  expect_damaged("3 bytes of data, the header names 4");
  write_raw(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 5);
  expect_damaged("5 bytes of data");
}

TEST_F(SafetensorsTest, EveryTruncationIsNoticed) {
  (void)write_state();
  for (std::uint64_t size = fs::file_size(file()); size-- > 0;) {
    fs::resize_file(file(), size);
    EXPECT_FALSE(read_safetensors_header(file())) << size;
  }
}

TEST_F(SafetensorsTest, RandomBytesInTheHeaderNeverCrash) {
  (void)write_state();
  std::string whole(fs::file_size(file()), '\0');
  std::ifstream(file(), std::ios::binary).read(whole.data(), static_cast<std::streamsize>(whole.size()));
  std::mt19937_64 random(testing::test_seed());
  for (int i = 0; i < 500; ++i) {
    std::string bent = whole;
    for (int k = 0; k < 3; ++k) bent[random() % (whole.size() - 360)] = static_cast<char>(random());
    std::ofstream(file(), std::ios::binary) << bent;
    const auto header = read_safetensors_header(file());
    if (header) {
      for (const TensorEntry& entry : header->entries) EXPECT_LE(header->data_offset + entry.end, whole.size());
    }
  }
}

TEST_F(SafetensorsTest, WhatIsWrittenIsRead) {
  auto writer = SafetensorsWriter::create(
      file(), {{"z", "BF16", {2, 3}}, {"a", "F32", {}}, {"empty", "F16", {0, 7}}, {"\xc3\xa9\"", "I8", {3}}},
      {{"format", "pt"}});
  ASSERT_TRUE(writer);
  const std::string data = "0123456789abABCDxyz";
  ASSERT_TRUE(writer->append(std::as_bytes(std::span(data))));
  ASSERT_TRUE(writer->finish());
  const auto header = read_safetensors_header(file());
  ASSERT_TRUE(header) << to_string(header.error());
  EXPECT_EQ(header->data_offset % 8, 0u);
  EXPECT_EQ(header->metadata, (std::map<std::string, std::string>{{"format", "pt"}}));
  ASSERT_EQ(header->entries.size(), 4u);
  EXPECT_EQ(header->entries[0].name, "z");
  EXPECT_EQ(header->entries[0].shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(header->entries[1].begin, 12u);
  EXPECT_EQ(header->entries[3].name, "\xc3\xa9\"");
  std::ifstream in(file(), std::ios::binary);
  in.seekg(static_cast<std::streamoff>(header->data_offset));
  std::string read(data.size(), ' ');
  in.read(read.data(), static_cast<std::streamsize>(read.size()));
  EXPECT_EQ(read, data);
}

TEST_F(SafetensorsTest, HalfWrittenFilesLeaveNothing) {
  {
    auto writer = SafetensorsWriter::create(file(), {{"a", "F32", {4}}}, {});
    ASSERT_TRUE(writer);
    const std::array<std::byte, 8> half{};
    ASSERT_TRUE(writer->append(half));
    EXPECT_FALSE(writer->finish());
    EXPECT_FALSE(fs::exists(file()));
  }
  EXPECT_TRUE(fs::is_empty(folder_.path()));
  EXPECT_FALSE(SafetensorsWriter::create(folder_.path() / "missing" / "x", {{"a", "F32", {4}}}, {}));
}

#ifdef STRATA_XXHASH_PYTHON
struct Script {
  int exit_code = 0;
  std::string output;
};
Script digest_check(const std::string& arguments) {
  const std::string command =
      std::string(STRATA_XXHASH_PYTHON) + " " STRATA_SOURCE_DIR "/tests/support/digest_check.py " + arguments + " 2>&1";
  Script script;
  std::FILE* pipe = ::popen(command.c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  std::array<char, 256> line{};
  while (std::fgets(line.data(), line.size(), pipe) != nullptr) script.output += line.data();
  script.exit_code = WEXITSTATUS(::pclose(pipe));
  return script;
}

TEST_F(SafetensorsTest, PythonComputesTheSameDigest) {
  const std::string digest = write_state();
  const Script same = digest_check(file().string() + " --expect " + digest);
  EXPECT_EQ(same.exit_code, 0) << same.output;
  EXPECT_EQ(same.output, digest + "\n");
  EXPECT_EQ(digest_check(folder_.path().string()).output, digest + "\n");
  {
    std::fstream data(file(), std::ios::in | std::ios::out | std::ios::binary);
    data.seekp(-1, std::ios::end);
    data.put('!');
  }
  EXPECT_EQ(digest_check(file().string() + " --expect " + digest).exit_code, 1);
  fs::resize_file(file(), fs::file_size(file()) - 1);
  EXPECT_EQ(digest_check(file().string()).exit_code, 4);
}
#else
TEST_F(SafetensorsTest, PythonComputesTheSameDigest) {
  GTEST_SKIP() << "no python3 with the xxhash module";
}
#endif

}  // namespace
}  // namespace strata::formats
