// The batch trio: train_batch_size = micro-batch x accumulation x ranks. What is missing is derived as DeepSpeed does.
#include <algorithm>

#include <fmt/format.h>

#include "config/draft.hpp"

namespace strata::config {
namespace {

constexpr std::string_view kTrain = "train_batch_size";
constexpr std::string_view kMicro = "train_micro_batch_size_per_gpu";
constexpr std::string_view kAccumulation = "gradient_accumulation_steps";

bool by_command_line(Draft& draft, std::string_view path) {
  return draft.cell(path)->origin == Origin::kCommandLine;
}

/// A flag changes a factor and the file fixes the product: the product stays, because it decides the results. With both
/// factors on the command line the product follows.
void make_room_for_flags(Draft& draft, bool& train, bool& micro, bool& accumulation) {
  const bool micro_flag = micro && by_command_line(draft, kMicro);
  const bool accumulation_flag = accumulation && by_command_line(draft, kAccumulation);
  if (!train || by_command_line(draft, kTrain) || (!micro_flag && !accumulation_flag)) return;
  if (micro_flag && accumulation_flag) {
    train = false;
  } else if (micro_flag) {
    accumulation = false;
  } else {
    micro = false;
  }
}

void derive(Draft& draft, std::string_view path, std::uint64_t value) {
  const bool was_given = draft.is_given(path);
  const std::string before = was_given ? text_of(draft.cell(path)->value) : std::string();
  draft.derive(path, value, {});
  if (was_given && before != fmt::to_string(value)) {
    draft.notice(fmt::format("{}: {} in the file becomes {} to agree with the command line", path, before, value));
  }
}

void check_product(Draft& draft) {
  const std::uint64_t train = draft.count(kTrain);
  const std::uint64_t micro = draft.count(kMicro);
  const std::uint64_t accumulation = draft.count(kAccumulation);
  const std::uint64_t world = std::max<std::uint64_t>(1, draft.options().world_size);
  const std::uint64_t per_step = micro * accumulation;  // at most 2^62, as each is at most 2^31
  if (per_step != 0 && train % per_step == 0 && train / per_step == world) return;
  std::string hint = fmt::format("remove {}, or make it {}", kTrain, per_step * world);
  if (per_step == 0) hint = fmt::format("raise {} to at least {}", kTrain, world * std::max(micro, accumulation));
  if (per_step != 0 && train % per_step == 0 && world == 1) {
    hint += fmt::format(" (the file was made for {} ranks, this is one)", train / per_step);
  }
  draft.error(kTrain,
              fmt::format("{} samples per step are not {} per micro-batch x {} micro-batches x {} ranks = {}", train,
                          micro, accumulation, world, per_step * world),
              std::move(hint));
}

}  // namespace

void check_batch(Draft& draft) {
  for (const std::string_view path : {kTrain, kMicro, kAccumulation}) {
    if (draft.cell(path)->fate == Fate::kRefused) return;  // already said
  }
  const std::uint64_t world = std::max<std::uint64_t>(1, draft.options().world_size);
  bool train = draft.is_given(kTrain);
  bool micro = draft.is_given(kMicro);
  bool accumulation = draft.is_given(kAccumulation);
  make_room_for_flags(draft, train, micro, accumulation);
  if (!train && !micro) {
    const bool filled = draft.is_set(kMicro);  // "auto"
    const auto fallback = draft.options().fallback_micro_batch;
    if (!filled && fallback) {
      Cell* cell = draft.cell(kMicro);
      cell->value = *fallback;
    }
    if (!draft.is_set(kMicro)) {
      draft.error(kTrain, fmt::format("missing, and so is {}", kMicro),
                  fmt::format("give one of the two, or --micro-batch, or \"auto\""));
      return;
    }
    micro = true;
  }
  if (train && micro && !accumulation) {
    derive(draft, kAccumulation, draft.count(kTrain) / (draft.count(kMicro) * world));
  } else {
    if (!accumulation && !draft.is_set(kAccumulation)) derive(draft, kAccumulation, 1);
    if (train && !micro) derive(draft, kMicro, draft.count(kTrain) / (draft.count(kAccumulation) * world));
  }
  if (!train) derive(draft, kTrain, draft.count(kMicro) * draft.count(kAccumulation) * world);
  check_product(draft);
}

}  // namespace strata::config
