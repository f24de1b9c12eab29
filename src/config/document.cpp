#include "config/document.hpp"

#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace strata::config {
namespace {

using nlohmann::json;

constexpr std::size_t kLongestText = 80;

Position position_of(std::string_view text, std::size_t offset) {
  Position at{1, 1};
  for (std::size_t i = 0; i < offset && i < text.size(); ++i) {
    if (text[i] == '\n') {
      ++at.line;
      at.column = 1;
    } else {
      ++at.column;
    }
  }
  return at;
}

/// Blanks what JSON lacks. One pass; strings are copied as they are.
class Blanker {
 public:
  explicit Blanker(std::string_view text) : text_(text) {}

  std::string run() && {
    while (at_ < text_.size()) step();
    return std::move(text_);
  }

 private:
  void step() {
    const char c = text_[at_];
    if (c == '"') {
      pass_string();
    } else if (c == '#' || starts("//")) {
      blank_until(text_.find('\n', at_));
    } else if (starts("/*")) {
      const std::size_t end = text_.find("*/", at_ + 2);
      if (end == std::string::npos) {
        at_ = text_.size();  // left in place: the parser names it
      } else {
        blank_until(end + 2);
      }
    } else if (c == ']' || c == '}') {
      if (comma_ != std::string::npos) text_[comma_] = ' ';
      forget_comma();
    } else if (c == ',') {
      // A comma right after an opening bracket or another comma stays, and stays an error.
      comma_ = after_value_ ? at_ : std::string::npos;
      after_value_ = false;
      ++at_;
    } else if (starts("Infinity")) {
      text_.replace(at_, 8, "\"inf\"   ");
      at_ += 8;
      comma_ = std::string::npos;
      after_value_ = true;
    } else {
      if (!is_space(c)) {
        comma_ = std::string::npos;
        after_value_ = c != '{' && c != '[' && c != ':';
      }
      ++at_;
    }
  }

  [[nodiscard]] bool starts(std::string_view what) const { return text_.compare(at_, what.size(), what) == 0; }
  static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

  void forget_comma() {
    comma_ = std::string::npos;
    after_value_ = true;
    ++at_;
  }

  void pass_string() {
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\') ++at_;
    }
    if (at_ < text_.size()) ++at_;
    comma_ = std::string::npos;
    after_value_ = true;
  }

  void blank_until(std::size_t end) {
    if (end > text_.size()) end = text_.size();
    for (; at_ < end; ++at_) {
      if (text_[at_] != '\n') text_[at_] = ' ';
    }
  }

  std::string text_;
  std::size_t at_ = 0;
  std::size_t comma_ = std::string::npos;  ///< of a comma that nothing has followed yet
  bool after_value_ = false;
};

/// Counts what the parser has taken, which is how the handler knows where it is.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, std::size_t* taken) : at_(at), taken_(taken) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    ++*taken_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  std::size_t* taken_;
};

/// Builds the tree from the parser's events; returning false stops the parser.
class Builder final : public json::json_sax_t {
 public:
  Builder(std::string_view text, const std::size_t* taken) : text_(text), taken_(taken) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(std::int64_t value) override { return add(value); }
  bool number_unsigned(std::uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string&) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(json::binary_t&) override { return false; }

  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    Level& level = levels_.back();
    level.key = name;
    std::string path = join_path(level.path, name);
    const Position at = position_of_key();
    if (level.value->contains(name)) {
      issue_ = Issue{.path = path,
                     .line = at.line,
                     .column = at.column,
                     .value = {},
                     .message = "the key stands twice in this object",
                     .hint = "keep one of them"};
      const auto first = document_.positions.find(path);
      if (first != document_.positions.end()) {
        issue_.message = fmt::format("the key stands twice in this object (first in line {})", first->second.line);
      }
      return false;
    }
    document_.positions.emplace(std::move(path), at);
    return true;
  }

  bool parse_error(std::size_t, const std::string& last_token, const json::exception& error) override {
    const Position at = position_of(text_, *taken_ == 0 ? 0 : *taken_ - 1);
    std::string_view reason = error.what();
    // The library's text starts with its own position and ends with the token: keep the reason between them.
    if (const auto colon = reason.find(" - "); colon != std::string_view::npos) reason.remove_prefix(colon + 3);
    if (const auto bracket = reason.find("] "); reason.starts_with('[') && bracket != std::string_view::npos) {
      reason.remove_prefix(bracket + 2);
    }
    if (const auto last = reason.find("; last read"); last != std::string_view::npos) {
      reason = reason.substr(0, last);
    }
    std::string near = last_token.size() > kLongestText ? last_token.substr(last_token.size() - 40) : last_token;
    for (char& c : near) {
      if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = ' ';
    }
    issue_ = Issue{.path = {},
                   .line = at.line,
                   .column = at.column,
                   .value = {},
                   .message = fmt::format("not valid JSON near '{}': {}", near, reason),
                   .hint = reason.find("overflow") != std::string_view::npos
                               ? "write a smaller number"
                               : "write JSON; comments and trailing commas are fine, unquoted keys or strings "
                                 "are not"};
    return false;
  }

  [[nodiscard]] Document take_document() { return std::move(document_); }
  [[nodiscard]] Issue take_issue() { return std::move(issue_); }

 private:
  struct Level {
    json* value;
    std::string path;
    std::string key;
  };

  bool open(json value) {
    if (levels_.size() >= kMaxDepth) {
      const Position at = position_of(text_, *taken_ == 0 ? 0 : *taken_ - 1);
      issue_ = Issue{.path = levels_.back().path,
                     .line = at.line,
                     .column = at.column,
                     .value = {},
                     .message = fmt::format("nested deeper than {} levels", kMaxDepth),
                     .hint = "a DeepSpeed file needs fewer than ten"};
      return false;
    }
    json* place = put(std::move(value));
    if (place == nullptr) return false;
    std::string path;
    if (!levels_.empty()) {
      const Level& parent = levels_.back();
      path = parent.value->is_array() ? fmt::format("{}[{}]", parent.path, parent.value->size() - 1)
                                      : join_path(parent.path, parent.key);
    }
    levels_.push_back(Level{place, std::move(path), {}});
    return true;
  }

  bool close() {
    levels_.pop_back();
    return true;
  }

  bool add(json value) { return put(std::move(value)) != nullptr; }

  /// Elements of a list move when it grows, but then none of them is on the stack.
  json* put(json value) {
    if (levels_.empty()) {
      if (!value.is_object()) {
        const Position at = position_of(text_, *taken_ == 0 ? 0 : *taken_ - 1);
        issue_ = Issue{.path = {},
                       .line = at.line,
                       .column = at.column,
                       .value = text_of(value),
                       .message = fmt::format("the text is of type {} where an object is expected", value.type_name()),
                       .hint = "start the file with { and end it with }"};
        return nullptr;
      }
      document_.root = std::move(value);
      return &document_.root;
    }
    Level& level = levels_.back();
    if (level.value->is_array()) {
      level.value->push_back(std::move(value));
      return &level.value->back();
    }
    return &((*level.value)[level.key] = std::move(value));
  }

  /// The parser has just taken the closing quote of a key.
  Position position_of_key() {
    std::size_t begin = *taken_ >= 2 ? *taken_ - 2 : 0;
    while (begin > 0 && (text_[begin] != '"' || escaped(begin))) --begin;
    for (; counted_ < begin; ++counted_) {
      if (text_[counted_] == '\n') {
        ++counted_at_.line;
        counted_at_.column = 1;
      } else {
        ++counted_at_.column;
      }
    }
    return counted_at_;
  }

  [[nodiscard]] bool escaped(std::size_t at) const {
    std::size_t slashes = 0;
    while (slashes < at && text_[at - 1 - slashes] == '\\') ++slashes;
    return slashes % 2 == 1;
  }

  std::string_view text_;
  const std::size_t* taken_;
  Document document_;
  std::vector<Level> levels_;
  Issue issue_;
  std::size_t counted_ = 0;  ///< keys come in order, so lines are counted once
  Position counted_at_{1, 1};
};

}  // namespace

std::string blank_extensions(std::string_view text) {
  return Blanker(text).run();
}

tl::expected<Document, Issue> parse_document(std::string_view text) {
  const std::string plain = blank_extensions(text);
  std::size_t taken = 0;
  Builder builder(plain, &taken);
  const CountingIterator begin(plain.data(), &taken);
  const CountingIterator end(plain.data() + plain.size(), &taken);
  if (!json::sax_parse(begin, end, &builder)) return tl::unexpected(builder.take_issue());
  return builder.take_document();
}

std::string join_path(std::string_view parent, std::string_view key) {
  return parent.empty() ? std::string(key) : fmt::format("{}.{}", parent, key);
}

std::string text_of(const nlohmann::json& value) {
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() <= kLongestText) return text;
  std::size_t keep = kLongestText - 3;
  while (keep > 0 && (static_cast<unsigned char>(text[keep]) & 0xc0) == 0x80) --keep;  // not inside a character
  return text.substr(0, keep) + "...";
}

}  // namespace strata::config
