#include "zero/gradient_sink.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <ATen/Functions.h>

#include "base/check.hpp"
#include "zero/tensor_types.hpp"

namespace strata::zero {
namespace {

at::Tensor tensor_over(std::span<std::byte> bytes, DType type, std::uint64_t first,
                       std::span<const std::int64_t> shape) {
  return at::from_blob(bytes.data() + bytes_of(type, first).value, at::IntArrayRef(shape.data(), shape.size()),
                       at::TensorOptions().dtype(scalar_type_of(type)));
}

}  // namespace

GradientSink::GradientSink(std::span<const UnitLayout> layouts, const StateObjects& objects,
                           tiers::TierManager& tiers, optim::CpuOptimizer& optimizer, Collectives& collectives)
    : layouts_(layouts),
      objects_(objects),
      tiers_(tiers),
      optimizer_(optimizer),
      collectives_(collectives),
      lookahead_(tiers, {.tier = Tier::kHost, .objects = 1}) {
  for (const UnitLayout& layout : layouts_) {
    UnitState unit;
    for (const Section& section : layout.sections) {
      SectionState state;
      state.arrived.assign(section.segments.size(), 0);
      state.arrived_full.assign(section.segments.size(), 0);
      unit.sections.push_back(std::move(state));
    }
    units_.push_back(std::move(unit));
  }
}

void GradientSink::begin_step() {
  for (UnitState& unit : units_) {
    for (SectionState& state : unit.sections) {
      STRATA_CHECK(!state.accumulator && !state.full, "a step begins with every gradient at home");
      std::fill(state.arrived.begin(), state.arrived.end(), std::uint8_t{0});
      std::fill(state.arrived_full.begin(), state.arrived_full.end(), std::uint8_t{0});
      state.has_content = false;
      state.norm_known = false;
    }
    unit.dirty = false;
  }
}

Status GradientSink::hold_accumulator(UnitId unit, std::uint32_t section) {
  SectionState& state = units_[unit.value].sections[section];
  if (state.accumulator) return {};
  const ObjectId object = *objects_.units[unit.value][section].gradient;
  if (state.has_content && tiers_.objects()[object.value].home == Tier::kDisk) lookahead_.use(object);
  const tiers::Content content = state.has_content ? tiers::Content::kKeep : tiers::Content::kOverwrite;
  auto lease = tiers_.write(object, Tier::kHost, content);
  if (!lease && lease.error().code == ErrorCode::kDoesNotFit) {
    make_room();
    lease = tiers_.write(object, Tier::kHost, content);
  }
  STRATA_ASSIGN(state.accumulator, std::move(lease));
  state.has_content = true;
  return {};
}

void GradientSink::make_room() {
  for (UnitState& unit : units_) {
    for (SectionState& state : unit.sections) state.accumulator.release();
  }
  tiers_.drop_unleased(Tier::kHost);
}

Status GradientSink::add(UnitId unit, std::uint32_t parameter, const at::Tensor& gradient, std::uint32_t) {
  UnitState& owner = units_[unit.value];
  const UnitLayout::Place place = layouts_[unit.value].places[parameter];
  const Section& section = layouts_[unit.value].sections[place.section];
  STRATA_CHECK(section.trainable == Trainable::kYes, "a frozen parameter has no gradient");
  SectionState& state = owner.sections[place.section];
  const Segment& segment = section.segments[place.segment];
  owner.dirty = true;
  state.norm_known = false;

  const bool several_ranks = collectives_.world_size() > 1;
  if (several_ranks && !state.full) {
    STRATA_ASSIGN(state.full, tiers_.write(*objects_.units[unit.value][place.section].full_gradient, Tier::kHost,
                                           tiers::Content::kOverwrite));
    std::fill(state.arrived_full.begin(), state.arrived_full.end(), std::uint8_t{0});
  } else if (!several_ranks) {
    STRATA_TRY(hold_accumulator(unit, place.section));
  }
  const DType type = several_ranks ? section.dtype : gradient_type_of(section, objects_.gradient_type);
  const at::Tensor sum = tensor_over(several_ranks ? state.full.bytes() : state.accumulator.bytes(), type,
                                     segment.offset, segment.shape);
  std::uint8_t& arrived = several_ranks ? state.arrived_full[place.segment] : state.arrived[place.segment];
  if (arrived != 0) {
    sum.add_(gradient);
  } else {
    sum.copy_(gradient);
  }
  arrived = 1;
  return {};
}

void GradientSink::fill_missing(const Section& layout, SectionState& state, std::span<std::byte> bytes, DType type) {
  std::vector<std::uint8_t>& arrived = state.full ? state.arrived_full : state.arrived;
  for (std::size_t i = 0; i < layout.segments.size(); ++i) {
    if (arrived[i] != 0) continue;
    const Segment& segment = layout.segments[i];
    std::memset(bytes.data() + bytes_of(type, segment.offset).value, 0, bytes_of(type, segment.numel).value);
    arrived[i] = 1;
  }
}

Status GradientSink::reduce(UnitId unit, std::uint32_t section) {
  SectionState& state = units_[unit.value].sections[section];
  if (!state.full) return {};
  const Section& layout = layouts_[unit.value].sections[section];
  fill_missing(layout, state, state.full.bytes(), layout.dtype);
  const std::int64_t count = static_cast<std::int64_t>(layout.shard_elements);
  const at::Tensor shard = at::empty({count}, at::TensorOptions().dtype(scalar_type_of(layout.dtype)));
  const std::span<std::byte> shard_bytes(static_cast<std::byte*>(shard.mutable_data_ptr()), shard.nbytes());
  STRATA_TRY(collectives_.reduce_scatter_mean(state.full.bytes(), shard_bytes, layout.dtype,
                                              {unit, section, visit_++}));
  state.full.abandon();

  const bool first = !state.has_content;
  STRATA_TRY(hold_accumulator(unit, section));
  const std::int64_t shape[] = {count};
  const at::Tensor sum =
      tensor_over(state.accumulator.bytes(), gradient_type_of(layout, objects_.gradient_type), 0, shape);
  if (first) {
    sum.copy_(shard);
  } else {
    sum.add_(shard);
  }
  std::fill(state.arrived.begin(), state.arrived.end(), std::uint8_t{1});
  return {};
}

void GradientSink::measure(const Section& layout, SectionState& state, std::span<const std::byte> bytes) {
  const DType type = gradient_type_of(layout, objects_.gradient_type);
  const std::uint64_t begin = layout.shard_elements * collectives_.rank();
  std::vector<optim::NormPiece> pieces;
  for (const SegmentPart& part : parts_within(layout, begin, begin + layout.shard_elements)) {
    pieces.push_back({bytes.data() + bytes_of(type, part.at).value, part.count, type});
  }
  state.squares.resize(pieces.size());
  optimizer_.sum_squares(pieces, state.squares);
  state.norm_known = true;
}

Status GradientSink::complete_section(UnitId unit, std::uint32_t section) {
  SectionState& state = units_[unit.value].sections[section];
  STRATA_TRY(reduce(unit, section));
  if (!state.accumulator) return {};
  const bool all = std::all_of(state.arrived.begin(), state.arrived.end(), [](std::uint8_t a) { return a != 0; });
  if (position_ == MicroBatchPosition::kLast && all) {
    measure(layouts_[unit.value].sections[section], state, state.accumulator.bytes());
  }
  state.accumulator.release();
  return {};
}

Status GradientSink::complete(UnitId unit) {
  UnitState& owner = units_[unit.value];
  if (!owner.dirty) return {};
  for (std::uint32_t s = 0; s < owner.sections.size(); ++s) STRATA_TRY(complete_section(unit, s));
  owner.dirty = false;
  return {};
}

Status GradientSink::flush() {
  for (std::uint32_t u = 0; u < units_.size(); ++u) STRATA_TRY(complete(UnitId(u)));
  return {};
}

Result<double> GradientSink::finish() {
  STRATA_TRY(flush());
  double total = 0;
  for (std::uint32_t u = 0; u < units_.size(); ++u) {
    for (std::uint32_t s = 0; s < units_[u].sections.size(); ++s) {
      const Section& layout = layouts_[u].sections[s];
      if (layout.trainable == Trainable::kNo) continue;
      SectionState& state = units_[u].sections[s];
      if (!state.norm_known) {
        STRATA_TRY(hold_accumulator(UnitId(u), s));
        if (collectives_.world_size() == 1) {
          fill_missing(layout, state, state.accumulator.bytes(), gradient_type_of(layout, objects_.gradient_type));
        } else if (std::none_of(state.arrived.begin(), state.arrived.end(), [](std::uint8_t a) { return a != 0; })) {
          std::memset(state.accumulator.bytes().data(), 0, state.accumulator.bytes().size());
        }
        measure(layout, state, state.accumulator.bytes());
        state.accumulator.release();
      }
      for (const double square : state.squares) total += square;
    }
  }
  lookahead_.end_step(prefetch::Lookahead::Continue::kNo);
  lookahead_.clear();
  STRATA_TRY(collectives_.all_reduce_sum({&total, 1}));
  return total;
}

void GradientSink::abort() {
  for (std::size_t u = 0; u < units_.size(); ++u) {
    for (std::size_t s = 0; s < units_[u].sections.size(); ++s) {
      SectionState& state = units_[u].sections[s];
      state.accumulator.abandon();
      state.full.abandon();
      if (objects_.units[u][s].gradient) tiers_.discard(*objects_.units[u][s].gradient);
    }
  }
  lookahead_.abort();
  begin_step();
}

}  // namespace strata::zero
