// JSON as people write DeepSpeed files: with comments and trailing commas. Remembers where every key stands.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "config/load.hpp"

namespace strata::config {

struct Position {
  std::size_t line = 0;    ///< from 1; 0: nowhere
  std::size_t column = 0;  ///< from 1, in bytes
};

struct Document {
  nlohmann::json root = nlohmann::json::object();
  std::map<std::string, Position, std::less<>> positions;  ///< by JSON path of the member
};

/// Objects and lists inside each other; deeper text is refused, so that nothing recurses without bound.
inline constexpr std::size_t kMaxDepth = 64;

/// Blanks comments (//, /* */, #) and trailing commas, byte for byte, so that positions stay what they were.
/// `Infinity`, which Python writes, becomes the string "inf".
[[nodiscard]] std::string blank_extensions(std::string_view text);

/// Refuses duplicate keys, naming the path, and a root that is no object.
[[nodiscard]] tl::expected<Document, Issue> parse_document(std::string_view text);

/// A path below `parent`; the root's path is empty.
[[nodiscard]] std::string join_path(std::string_view parent, std::string_view key);

/// JSON text of a value, shortened when long. Never throws.
[[nodiscard]] std::string text_of(const nlohmann::json& value);

}  // namespace strata::config
