#include "zero/state_objects.hpp"

#include <fmt/format.h>

#include "base/check.hpp"

namespace strata::zero {
namespace {

class Builder {
 public:
  explicit Builder(const StateObjectsOptions& options) : options_(options) {}

  UnitObjects add_unit(const UnitLayout& layout, const UnitPlacement& placement) {
    STRATA_CHECK(placement.size() == layout.sections.size(), "one placement per section");
    UnitObjects objects;
    for (std::size_t index = 0; index < layout.sections.size(); ++index) {
      objects.push_back(add_section(layout.name, index, layout.sections[index], placement[index]));
    }
    return objects;
  }

  StateObjects take() && { return std::move(result_); }

 private:
  SectionObjects add_section(const std::string& unit, std::size_t index, const Section& section,
                             const SectionPlacement& placement) {
    const std::string prefix = fmt::format("{}/{}", unit, index);
    SectionObjects objects;
    objects.parameter = add_stored(prefix + "/parameter", Kind::kParameter, section.shard_bytes(), placement.parameter);
    if (options_.world_size > 1) {
      objects.gathered = add({prefix + "/gathered", Kind::kGathered, section.bytes(), Tier::kDevice});
    }
    if (section.trainable == Trainable::kNo) return objects;

    if (options_.gradients == GradientObjects::kMake) add_gradients(prefix, section, placement, objects);
    STRATA_CHECK(placement.optimizer.size() == section.sub_groups.size(), "one placement per sub-group");
    for (std::size_t k = 0; k < section.sub_groups.size(); ++k) {
      objects.optimizer.push_back(add_stored(fmt::format("{}/optimizer/{}", prefix, k), Kind::kOptimizer,
                                             state_arrays(section.dtype, section.sub_groups[k]).bytes(),
                                             placement.optimizer[k]));
    }
    return objects;
  }

  void add_gradients(const std::string& prefix, const Section& section, const SectionPlacement& placement,
                     SectionObjects& objects) {
    const DType type = gradient_type_of(section, options_.gradient_type);
    tiers::ObjectSpec gradient{prefix + "/gradient", Kind::kGradient, bytes_of(type, section.shard_elements),
                               placement.gradient};
    if (placement.gradient == Tier::kDisk) gradient.backing = tiers::Backing::kScratch;
    objects.gradient = add(std::move(gradient));
    if (options_.world_size > 1) {
      objects.full_gradient = add({prefix + "/full_gradient", Kind::kStaging, section.bytes(), Tier::kHost});
    }
  }

  ObjectId add(tiers::ObjectSpec spec) {
    result_.specs.push_back(std::move(spec));
    return ObjectId(static_cast<std::uint32_t>(result_.specs.size() - 1));
  }

  ObjectId add_stored(std::string name, Kind kind, Bytes bytes, Tier home) {
    tiers::ObjectSpec spec{name, kind, bytes, home};
    spec.backing = tiers::Backing::kStore;
    spec.store_id = tiers::StoreId(static_cast<std::uint32_t>(result_.stored.size()));
    result_.stored.push_back({std::move(name), bytes});
    return add(std::move(spec));
  }

  StateObjectsOptions options_;
  StateObjects result_;
};

}  // namespace

DType gradient_type_of(const Section& section, DType wished) {
  return section.dtype == DType::kFloat32 ? DType::kFloat32 : wished;
}

StateObjects make_state_objects(std::span<const UnitLayout> layouts, std::span<const UnitPlacement> placements,
                                const StateObjectsOptions& options) {
  STRATA_CHECK(layouts.size() == placements.size(), "one placement per unit");
  Builder builder(options);
  std::vector<UnitObjects> units;
  for (std::size_t u = 0; u < layouts.size(); ++u) units.push_back(builder.add_unit(layouts[u], placements[u]));
  StateObjects objects = std::move(builder).take();
  objects.units = std::move(units);
  objects.gradient_type = options.gradient_type;
  return objects;
}

}  // namespace strata::zero
