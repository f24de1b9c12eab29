#include "model/config_reader.hpp"

#include <limits>

#include <fmt/format.h>

namespace strata::model {
namespace {

/// A value as it stands in the file, shortened.
std::string shown(const nlohmann::json& value) {
  constexpr std::size_t kLongest = 60;
  auto text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

}  // namespace

const nlohmann::json* ConfigReader::find(std::string_view key) const {
  const auto found = object_.find(std::string(key));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void ConfigReader::reject(std::string_view key, std::string problem, std::string hint) {
  if (error_) return;
  error_ = Error{ErrorCode::kConfig, 0, fmt::format("{}: {}: {}", where_, key, problem), std::move(hint)};
}

Status ConfigReader::status() const {
  if (error_) return tl::unexpected(*error_);
  return {};
}

std::int64_t ConfigReader::integer(std::string_view key, IntegerRange range, std::optional<std::int64_t> fallback,
                                   std::string_view alias) {
  const auto* value = find(key);
  if (value == nullptr && !alias.empty()) {
    value = find(alias);
    if (value != nullptr) key = alias;
  }
  if (value == nullptr) {
    if (!fallback) reject(key, "missing", "a model needs this key");
    return fallback.value_or(range.min);
  }
  if (!value->is_number_integer()) {
    reject(key, fmt::format("{} is not an integer", shown(*value)));
    return range.min;
  }
  const bool too_large = value->is_number_unsigned() &&
                         value->get<std::uint64_t>() > std::uint64_t{std::numeric_limits<std::int64_t>::max()};
  const auto number = too_large ? std::numeric_limits<std::int64_t>::max() : value->get<std::int64_t>();
  if (number < range.min || number > range.max) {
    reject(key, fmt::format("{} is not between {} and {}", shown(*value), range.min, range.max));
    return range.min;
  }
  return number;
}

double ConfigReader::number(std::string_view key, NumberRange range, double fallback) {
  const auto* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number()) {
    reject(key, fmt::format("{} is not a number", shown(*value)));
    return fallback;
  }
  const auto number = value->get<double>();
  if (!(number >= range.min && number <= range.max)) {
    reject(key, fmt::format("{} is not between {} and {}", shown(*value), range.min, range.max));
    return fallback;
  }
  return number;
}

bool ConfigReader::flag(std::string_view key, bool fallback) {
  const auto* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    reject(key, fmt::format("{} is not true or false", shown(*value)));
    return fallback;
  }
  return value->get<bool>();
}

std::string ConfigReader::text(std::string_view key, std::string_view fallback) {
  const auto* value = find(key);
  if (value == nullptr) return std::string(fallback);
  if (!value->is_string()) {
    reject(key, fmt::format("{} is not a string", shown(*value)));
    return std::string(fallback);
  }
  return value->get<std::string>();
}

void ConfigReader::only(std::string_view key, const nlohmann::json& supported) {
  const auto* value = find(key);
  if (value == nullptr || *value == supported) return;
  reject(key, fmt::format("{} is not supported, only {}", shown(*value), shown(supported)),
         "it would change the numbers that the model computes");
}

}  // namespace strata::model
