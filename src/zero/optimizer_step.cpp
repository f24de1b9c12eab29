#include "zero/optimizer_step.hpp"

#include <chrono>
#include <utility>

#include "base/check.hpp"

namespace strata::zero {
namespace {

template <class T>
T* at_element(std::span<std::byte> bytes, std::uint64_t element) {
  return reinterpret_cast<T*>(bytes.data()) + element;
}

const std::byte* at_element(std::span<const std::byte> bytes, DType type, std::uint64_t element) {
  return bytes.data() + bytes_of(type, element).value;
}

}  // namespace

OptimizerStep::OptimizerStep(std::span<const UnitLayout> layouts, const StateObjects& objects,
                             tiers::TierManager& tiers, optim::CpuOptimizer& optimizer, std::uint32_t rank,
                             const OptimizerStepOptions& options)
    : layouts_(layouts), objects_(objects), tiers_(tiers), optimizer_(optimizer), rank_(rank), options_(options) {
  for (std::uint32_t u = 0; u < layouts_.size(); ++u) {
    for (std::uint32_t s = 0; s < layouts_[u].sections.size(); ++s) {
      const Section& section = layouts_[u].sections[s];
      const SectionObjects& ids = objects_.units[u][s];
      for (std::uint32_t k = 0; k < section.sub_groups.size(); ++k) {
        Piece piece{u, s, k, {}};
        if (k == 0) {
          piece.needs.push_back(*ids.gradient);
          if (section.dtype == DType::kFloat32) piece.needs.push_back(ids.parameter);
        }
        piece.needs.push_back(ids.optimizer[k]);
        pieces_.push_back(std::move(piece));
      }
    }
  }
}

void OptimizerStep::look_ahead(std::size_t current) {
  std::vector<ObjectId> upcoming;
  Bytes ahead;
  for (std::size_t i = current; i < pieces_.size() && (i <= current + 1 || ahead < options_.lookahead); ++i) {
    for (const ObjectId id : pieces_[i].needs) {
      upcoming.push_back(id);
      ahead += tiers_.objects()[id.value].bytes;
    }
  }
  tiers_.set_lookahead(Tier::kHost, upcoming);
}

Status OptimizerStep::run(std::span<const kernels::AdamConstants> groups) {
  Status status = run_sections(groups);
  tiers_.set_lookahead(Tier::kHost, {});
  return status;
}

Status OptimizerStep::run_sections(std::span<const kernels::AdamConstants> groups) {
  std::size_t first = 0;
  while (first < pieces_.size()) {
    std::size_t count = 1;
    while (first + count < pieces_.size() && pieces_[first + count].unit == pieces_[first].unit &&
           pieces_[first + count].section == pieces_[first].section) {
      ++count;
    }
    STRATA_TRY(run_section(first, count, groups));
    first += count;
  }
  return {};
}

Result<OptimizerStep::Held> OptimizerStep::hold(const SectionObjects& ids, tiers::Content content) {
  Held held;
  STRATA_ASSIGN(held.gradient, tiers_.read(*ids.gradient, Tier::kHost));
  auto parameter = tiers_.write(ids.parameter, Tier::kHost, content);
  if (!parameter && parameter.error().code == ErrorCode::kDoesNotFit) {
    // The plan has room for both; it is scattered.
    held.gradient.release();
    tiers_.drop_unleased(Tier::kHost);
    STRATA_ASSIGN(held.gradient, tiers_.read(*ids.gradient, Tier::kHost));
    parameter = tiers_.write(ids.parameter, Tier::kHost, content);
  }
  STRATA_ASSIGN(held.parameter, std::move(parameter));
  return held;
}

Result<tiers::WriteLease> OptimizerStep::hold_state(ObjectId state, const SectionObjects& ids, Held& held) {
  auto lease = tiers_.write(state, Tier::kHost, tiers::Content::kKeep);
  if (lease || lease.error().code != ErrorCode::kDoesNotFit) return lease;
  // Parameter and gradient lie where no run is left that is long enough. They go home, half stepped, and come back.
  held.parameter.release();
  held.gradient.release();
  tiers_.drop_unleased(Tier::kHost);
  STRATA_ASSIGN(held, hold(ids, tiers::Content::kKeep));
  return tiers_.write(state, Tier::kHost, tiers::Content::kKeep);
}

double OptimizerStep::take_compute_s() { return std::exchange(compute_s_, 0.0); }

Status OptimizerStep::run_section(std::size_t first, std::size_t count,
                                  std::span<const kernels::AdamConstants> groups) {
  const Piece& head = pieces_[first];
  const Section& section = layouts_[head.unit].sections[head.section];
  const SectionObjects& ids = objects_.units[head.unit][head.section];
  const DType gradient_type = gradient_type_of(section, objects_.gradient_type);
  const bool has_master = section.dtype != DType::kFloat32;
  const std::uint64_t shard_begin = section.shard_elements * rank_;

  look_ahead(first);
  STRATA_ASSIGN(Held held, hold(ids, has_master ? tiers::Content::kOverwrite : tiers::Content::kKeep));
  std::vector<optim::AdamPiece> work;
  for (std::size_t i = first; i < first + count; ++i) {
    look_ahead(i);
    const SubGroup& sub_group = section.sub_groups[pieces_[i].sub_group];
    auto state = hold_state(ids.optimizer[pieces_[i].sub_group], ids, held);
    if (!state) {
      held.parameter.abandon();
      return tl::unexpected(std::move(state).error());
    }
    const StateArrays arrays = state_arrays(section.dtype, sub_group);
    const std::uint64_t moments = has_master ? arrays.stride : 0;
    work.clear();
    for (const SegmentPart& part :
         parts_within(section, shard_begin + sub_group.begin, shard_begin + sub_group.end)) {
      STRATA_CHECK(part.segment->group < groups.size(), "parameter group without settings");
      const std::uint64_t in_shard = sub_group.begin + part.at;
      optim::AdamPiece piece;
      piece.constants = groups[part.segment->group];
      piece.gradient_type = gradient_type;
      piece.block.master = has_master ? at_element<float>(state->bytes(), part.at)
                                      : at_element<float>(held.parameter.bytes(), in_shard);
      piece.block.exp_avg = at_element<float>(state->bytes(), moments + part.at);
      piece.block.exp_avg_sq = at_element<float>(state->bytes(), moments + arrays.stride + part.at);
      piece.block.gradient = at_element(held.gradient.bytes(), gradient_type, in_shard);
      piece.block.parameter16 = has_master ? at_element<std::uint16_t>(held.parameter.bytes(), in_shard) : nullptr;
      piece.block.n = part.count;
      work.push_back(piece);
    }
    const auto start = std::chrono::steady_clock::now();
    optimizer_.step(work);
    compute_s_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return {};
}

}  // namespace strata::zero
