// One row per key: type, default, limits, spellings, and what becomes of it. The tables are in keys_*.cpp.
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>

#include "config/load.hpp"

namespace strata::config {

enum class Type : std::uint8_t {
  kBool,
  kInteger,
  kNumber,
  kText,
  kChoice,       ///< one of `choices`, upper or lower case
  kSize,         ///< bytes, or "8GiB"
  kTextList,     ///< one text counts as a list of one
  kBetas,        ///< two numbers in [0, 1)
  kCountOrAll,   ///< an integer >= 1 or "all"
  kAny,          ///< not looked into
  kStrictBlock,  ///< object; DeepSpeed refuses unknown keys in it
  kPlainBlock,   ///< object; DeepSpeed ignores unknown keys in it
  kFreeBlock     ///< object that is not looked into
};

/// When a value asks for something that this build lacks.
enum class Refuse : std::uint8_t {
  kNever,
  kAlways,  ///< as soon as the key stands in the file (null excepted)
  kWhenTrue,
  kWhenFalse,
  kWhenSet,         ///< a block or value that is neither null nor empty
  kWhenEnabled,     ///< "enabled": true anywhere in it
  kWhenParallel,    ///< any number above 1 or "enabled": true in it
  kRefusedChoices,  ///< the value is one of `refused_choices`
};

/// Which value replaces "auto" (huggingface: integrations/deepspeed.py, trainer_config_process).
enum class AutoFill : std::uint8_t {
  kNone,
  kTrainBatch,
  kMicroBatch,
  kAccumulation,
  kClipping,
  kLr,
  kBetas,
  kEps,
  kWeightDecay,
  kWarmupMinLr,
  kWarmupMaxLr,
  kWarmupSteps,
  kTotalSteps,
  kBf16,
  kFp16,
  kReduceBucket,
  kPrefetchBucket,
  kPersistence,
};

struct Limits {
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
};

inline constexpr Limits kAnyNumber{};
inline constexpr Limits kAtLeastZero{.least = 0};
inline constexpr Limits kAtLeastOne{.least = 1};
inline constexpr Limits kCount{.least = 1, .most = 2147483647};
inline constexpr Limits kShare{.least = 0, .most = 1};

/// Lists in text are separated by '|'.
struct KeyRow {
  std::string_view path = {};
  Type type = Type::kAny;
  std::string_view fallback = {};  ///< the default as JSON text; empty: none
  Limits limits = kAnyNumber;
  std::string_view choices = {};
  std::string_view refused_choices = {};
  std::string_view aliases = {};      ///< other names of the last component
  std::string_view replaced_by = {};  ///< path of the key that took a deprecated one's place
  std::string_view only_for = {};     ///< values of the block's sibling `type` that know this parameter
  Fate fate = Fate::kNoEffect;        ///< of an accepted value
  Refuse refuse = Refuse::kNever;
  AutoFill auto_fill = AutoFill::kNone;
  std::string_view note = {};
};

constexpr bool is_block(Type type) {
  return type == Type::kStrictBlock || type == Type::kPlainBlock || type == Type::kFreeBlock;
}

}  // namespace strata::config
