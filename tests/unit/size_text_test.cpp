#include "base/size_text.hpp"

#include <gtest/gtest.h>

namespace strata {
namespace {

TEST(SizeTextTest, ReadsBinaryAndDecimalUnits) {
  EXPECT_EQ(parse_size("4096").value(), Bytes(4096));
  EXPECT_EQ(parse_size("512MiB").value(), Bytes(512ull << 20));
  EXPECT_EQ(parse_size("1.5 GiB").value(), Bytes(3ull << 29));
  EXPECT_EQ(parse_size("2GB").value(), Bytes(2'000'000'000));
  EXPECT_EQ(parse_size("9007199254740993").value(), Bytes(9007199254740993ull));
}

TEST(SizeTextTest, RefusesWhatIsNoSize) {
  for (const char* text : {"", "abc", "-1", "1.5", "5 mib", "1e300 GiB", "nan", "7 GiB x"}) {
    const auto size = parse_size(text);
    ASSERT_FALSE(size) << text;
    EXPECT_EQ(size.error().code, ErrorCode::kUsage);
    EXPECT_NE(size.error().message.find(text), std::string::npos);
  }
}

TEST(SizeTextTest, WritesThreeDigits) {
  EXPECT_EQ(format_size(Bytes(17)), "17 B");
  EXPECT_EQ(format_size(Bytes(1536)), "1.50 KiB");
  EXPECT_EQ(format_size(Bytes(700ull << 20)), "700 MiB");
}

}  // namespace
}  // namespace strata
