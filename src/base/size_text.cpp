#include "base/size_text.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace strata {
namespace {

struct UnitOfSize {
  std::string_view name;
  double factor;
};

constexpr std::array kUnits = {
    UnitOfSize{"", 1},       UnitOfSize{"B", 1},      UnitOfSize{"KiB", 0x1p10}, UnitOfSize{"MiB", 0x1p20},
    UnitOfSize{"GiB", 0x1p30}, UnitOfSize{"TiB", 0x1p40}, UnitOfSize{"KB", 1e3},   UnitOfSize{"MB", 1e6},
    UnitOfSize{"GB", 1e9},     UnitOfSize{"TB", 1e12}};

tl::unexpected<Error> bad_size(std::string_view text) {
  return fail(ErrorCode::kUsage, fmt::format("'{}' is not a size", text),
              "write bytes as an integer, or a number with KiB, MiB, GiB, TiB, KB, MB, GB or TB");
}

}  // namespace

Result<Bytes> parse_size(std::string_view text) {
  double number = 0;
  const char* end = text.data() + text.size();
  auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{} || !std::isfinite(number) || number < 0) return bad_size(text);
  while (rest != end && *rest == ' ') ++rest;
  const std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  for (const auto& candidate : kUnits) {
    if (candidate.name != unit) continue;
    const double bytes = number * candidate.factor;
    const bool whole = unit.empty() && number != std::floor(number);
    if (whole || bytes >= 0x1p63) return bad_size(text);
    if (unit.empty()) {  // exact beyond 2^53
      std::uint64_t exact = 0;
      auto [tail, failed] = std::from_chars(text.data(), end, exact);
      if (failed == std::errc{} && tail == end) return Bytes(exact);
    }
    return Bytes(static_cast<std::uint64_t>(std::llround(bytes)));
  }
  return bad_size(text);
}

std::string format_size(Bytes bytes) {
  constexpr std::array names = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes.value);
  std::size_t unit = 0;
  while (value >= 1023.5 && unit + 1 < names.size()) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} B", bytes.value);
  const int digits = value < 10 ? 2 : value < 100 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, digits, names[unit]);
}

}  // namespace strata
