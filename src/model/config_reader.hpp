// Typed access to the keys of one JSON object. The first thing that is wrong is kept and reported at the end, so that a
// parser reads as a list of its keys.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.hpp"

namespace strata::model {

struct IntegerRange {
  std::int64_t min = 1;
  std::int64_t max = 1;
};

struct NumberRange {
  double min = 0.0;
  double max = 1.0;
};

class ConfigReader {
 public:
  /// `object` must be a JSON object and outlive the reader; `where` names it in messages (the file's path).
  ConfigReader(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {}

  /// An absent or null key gives the fallback; without one it is an error. `alias` is another name of the same key.
  std::int64_t integer(std::string_view key, IntegerRange range, std::optional<std::int64_t> fallback = std::nullopt,
                       std::string_view alias = {});
  double number(std::string_view key, NumberRange range, double fallback);
  bool flag(std::string_view key, bool fallback);
  std::string text(std::string_view key, std::string_view fallback);

  /// The value of the key must be absent, null or the one that the model implements.
  void only(std::string_view key, const nlohmann::json& supported);

  /// Records an error of the caller's own, unless there is one already.
  void reject(std::string_view key, std::string problem, std::string hint = {});

  [[nodiscard]] const nlohmann::json* find(std::string_view key) const;  ///< null when absent or null
  [[nodiscard]] Status status() const;

 private:
  const nlohmann::json& object_;
  std::string where_;
  std::optional<Error> error_;
};

}  // namespace strata::model
