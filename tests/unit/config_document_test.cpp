#include "config/document.hpp"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace strata::config {
namespace {

using testing::HasSubstr;

TEST(ConfigDocumentTest, DuplicateKeyNamesItsPathAndBothPlaces) {
  const auto document = parse_document("{\n  \"a\": {\"b\": 1,\n        \"b\": 2}\n}");
  ASSERT_FALSE(document.has_value());
  EXPECT_EQ(document.error().path, "a.b");
  EXPECT_EQ(document.error().line, 3u);
  EXPECT_EQ(document.error().column, 9u);
  EXPECT_THAT(document.error().message, HasSubstr("line 2"));
}

TEST(ConfigDocumentTest, DuplicateKeyInsideAListIsFound) {
  const auto document = parse_document(R"({"a": [{"b": 1}, {"c": 1, "c": 1}]})");
  ASSERT_FALSE(document.has_value());
  EXPECT_EQ(document.error().path, "a[1].c");
}

TEST(ConfigDocumentTest, SameNameInDifferentObjectsIsNoDuplicate) {
  EXPECT_TRUE(parse_document(R"({"a": {"x": 1}, "b": {"x": 1}, "x": [{"x": 1}, {"x": 2}]})").has_value());
}

TEST(ConfigDocumentTest, SyntaxErrorsSayLineAndColumn) {
  struct Case {
    const char* text;
    std::size_t line;
    std::size_t column;
  };
  for (const Case& c : {Case{"{\n\"a\": 1\n\"b\": 2}", 3, 3}, Case{"{a: 1}", 1, 2}, Case{"{\"a\": 1,, \"b\": 2}", 1, 9},
                        Case{"{\"a\": [,]}", 1, 8}, Case{"{\"a\": tru}", 1, 10}, Case{"{\"a\": 1} x", 1, 10}}) {
    const auto document = parse_document(c.text);
    ASSERT_FALSE(document.has_value()) << c.text;
    EXPECT_EQ(document.error().line, c.line) << c.text;
    EXPECT_EQ(document.error().column, c.column) << c.text;
  }
}

TEST(ConfigDocumentTest, RefusesWhatIsNoObject) {
  for (const char* text : {"", "   ", "[1]", "3", "\"text\"", "null", "{", "{\"a\": /* open", "{\"a\": \"open"}) {
    EXPECT_FALSE(parse_document(text).has_value()) << text;
  }
}

TEST(ConfigDocumentTest, DepthIsBounded) {
  std::string deep = "{\"a\": ";
  deep.append(100000, '[');
  const auto document = parse_document(deep);
  ASSERT_FALSE(document.has_value());
  EXPECT_THAT(document.error().message, HasSubstr("nested deeper"));
}

TEST(ConfigDocumentTest, OverflowingNumberIsAnError) {
  const auto document = parse_document("{\"a\": 1e999}");
  ASSERT_FALSE(document.has_value());
  EXPECT_THAT(document.error().message, HasSubstr("overflow"));
}

TEST(ConfigDocumentTest, InvalidUtf8IsAnError) {
  EXPECT_FALSE(parse_document("{\"a\": \"\xff\"}").has_value());
}

TEST(ConfigDocumentTest, CommentsAndTrailingCommasAreBlankedInPlace) {
  const std::string text =
      "{ // one\n  # two\n \"a\": [1, 2, /* three */ ], /* four\n five */ \"b\": \"// # /* no comment */,}\",\n}\n// "
      "end";
  const std::string plain = blank_extensions(text);
  EXPECT_EQ(plain.size(), text.size());
  const auto document = parse_document(text);
  ASSERT_TRUE(document.has_value());
  EXPECT_EQ(document->root["a"].size(), 2u);
  EXPECT_EQ(document->root["b"], "// # /* no comment */,}");
  EXPECT_EQ(document->positions.at("b").line, 4u);
  EXPECT_EQ(document->positions.at("b").column, 10u);
}

TEST(ConfigDocumentTest, PositionsSurviveEscapedQuotesInKeys) {
  const auto document = parse_document("{\"x\\\"y\": 1, \"z\": 2}");
  ASSERT_TRUE(document.has_value());
  EXPECT_EQ(document->positions.at("x\"y").column, 2u);
  EXPECT_EQ(document->positions.at("z").column, 13u);
}

TEST(ConfigDocumentTest, ByteOrderMarkAndInfinityAreRead) {
  const auto document = parse_document("\xef\xbb\xbf{\"a\": Infinity, \"b\": 1,}");
  ASSERT_TRUE(document.has_value());
  EXPECT_EQ(document->root["a"], "inf");
}

TEST(ConfigDocumentTest, LongValuesAreShortenedBetweenCharacters) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "\xc3\xa4";
  const std::string shown = text_of(nlohmann::json(text));
  EXPECT_LE(shown.size(), 80u);
  EXPECT_TRUE(shown.ends_with("\xa4...")) << shown;
}

}  // namespace
}  // namespace strata::config
