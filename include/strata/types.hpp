// Strong types that every layer shares. Standard library only.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

namespace strata {

/// A count of bytes. Explicit, so that it can't be swapped with an offset or a number of elements.
struct Bytes {
  std::uint64_t value = 0;

  constexpr Bytes() = default;
  constexpr explicit Bytes(std::uint64_t v) : value(v) {}

  constexpr auto operator<=>(const Bytes&) const = default;
  constexpr Bytes& operator+=(Bytes o) { value += o.value; return *this; }
  constexpr Bytes& operator-=(Bytes o) { value -= o.value; return *this; }
  friend constexpr Bytes operator+(Bytes a, Bytes b) { return Bytes(a.value + b.value); }
  friend constexpr Bytes operator-(Bytes a, Bytes b) { return Bytes(a.value - b.value); }
  friend constexpr Bytes operator*(Bytes a, std::uint64_t n) { return Bytes(a.value * n); }
  friend constexpr Bytes operator*(std::uint64_t n, Bytes a) { return Bytes(a.value * n); }
  friend constexpr std::uint64_t operator/(Bytes a, Bytes b) { return a.value / b.value; }
  friend constexpr Bytes operator/(Bytes a, std::uint64_t n) { return Bytes(a.value / n); }
};

/// A place in a file or an arena, in bytes from its start.
struct Offset {
  std::uint64_t value = 0;

  constexpr Offset() = default;
  constexpr explicit Offset(std::uint64_t v) : value(v) {}

  constexpr auto operator<=>(const Offset&) const = default;
  friend constexpr Offset operator+(Offset a, Bytes b) { return Offset(a.value + b.value); }
  friend constexpr Bytes operator-(Offset a, Offset b) { return Bytes(a.value - b.value); }
};

namespace literals {
constexpr Bytes operator""_B(unsigned long long v) { return Bytes(v); }
constexpr Bytes operator""_KiB(unsigned long long v) { return Bytes(v << 10); }
constexpr Bytes operator""_MiB(unsigned long long v) { return Bytes(v << 20); }
constexpr Bytes operator""_GiB(unsigned long long v) { return Bytes(v << 30); }
}  // namespace literals

/// Rounds up to a multiple of `to` (not necessarily a power of two; `to` > 0).
constexpr std::uint64_t round_up(std::uint64_t v, std::uint64_t to) { return (v + to - 1) / to * to; }
constexpr std::uint64_t round_down(std::uint64_t v, std::uint64_t to) { return v / to * to; }
constexpr Bytes round_up(Bytes v, Bytes to) { return Bytes(round_up(v.value, to.value)); }

/// O_DIRECT transfers, disk extents and arena extents are multiples of this.
inline constexpr Bytes kBlockAlignment{4096};

/// An index into a table of things of one kind; ids of different kinds don't mix.
template <class Tag>
struct Id {
  std::uint32_t value = 0;

  constexpr Id() = default;
  constexpr explicit Id(std::uint32_t v) : value(v) {}
  constexpr auto operator<=>(const Id&) const = default;
};

using ObjectId = Id<struct ObjectTag>;
using UnitId = Id<struct UnitTag>;
using ParameterId = Id<struct ParameterTag>;
using PathId = Id<struct PathTag>;

/// Where bytes can live, nearest to the computation first.
enum class Tier : std::uint8_t { kDevice, kHost, kDisk };
inline constexpr std::size_t kTierCount = 3;

/// What bytes are for; memory plans and metrics are broken down by it (docs: formats, "Kinds").
enum class Kind : std::uint8_t {
  kParameter,
  kGradient,
  kOptimizer,
  kActivation,
  kGathered,
  kStaging,
  kOther
};
inline constexpr std::size_t kKindCount = 7;

enum class DType : std::uint8_t { kFloat32, kBFloat16, kFloat16 };

constexpr Bytes size_of(DType t) { return t == DType::kFloat32 ? Bytes(4) : Bytes(2); }
constexpr Bytes bytes_of(DType t, std::uint64_t elements) { return size_of(t) * elements; }

constexpr std::string_view name_of(Tier t) {
  constexpr std::string_view names[] = {"device", "host", "disk"};
  return names[static_cast<std::size_t>(t)];
}
constexpr std::string_view name_of(Kind k) {
  constexpr std::string_view names[] = {"parameter", "gradient", "optimizer", "activation",
                                        "gathered",  "staging",  "other"};
  return names[static_cast<std::size_t>(k)];
}
constexpr std::string_view name_of(DType t) {
  constexpr std::string_view names[] = {"fp32", "bf16", "fp16"};
  return names[static_cast<std::size_t>(t)];
}

}  // namespace strata

template <class Tag>
struct std::hash<strata::Id<Tag>> {
  std::size_t operator()(strata::Id<Tag> id) const noexcept { return std::hash<std::uint32_t>{}(id.value); }
};
