#include "engine/run_reader.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace strata::engine {

Result<std::unique_ptr<RunReader>> RunReader::open(const std::filesystem::path& folder) {
  std::unique_ptr<RunReader> reader(new RunReader());
  STRATA_ASSIGN(reader->record_, read_run(folder));
  STRATA_ASSIGN(reader->run_lock_, lock_run(folder, RunUse::kRead));
  STRATA_ASSIGN(reader->record_, read_run(folder));
  const RunRecord& record = reader->record_;
  const auto nothing_yet = [&folder] {
    return fail(ErrorCode::kStore, fmt::format("the run in '{}' has committed nothing yet", folder.string()),
                "train it for at least one step");
  };
  if (!record.data_files_made) return nothing_yet();
  STRATA_ASSIGN(reader->layouts_, zero::lay_out(record.units, {.world_size = record.world_size,
                                                               .sub_group_elements = record.sub_group_elements}));
  // Everything is read where it lies.
  std::vector<zero::UnitPlacement> placements;
  Bytes largest;
  for (const zero::UnitLayout& layout : reader->layouts_) {
    zero::UnitPlacement unit;
    for (const zero::Section& section : layout.sections) {
      zero::SectionPlacement placement{Tier::kDisk, Tier::kDisk, {}};
      placement.optimizer.assign(section.sub_groups.size(), Tier::kDisk);
      largest = std::max(largest, section.shard_bytes());
      for (const auto& sub_group : section.sub_groups) {
        largest = std::max(largest, zero::state_arrays(section.dtype, sub_group).bytes());
      }
      unit.push_back(std::move(placement));
    }
    placements.push_back(std::move(unit));
  }
  reader->objects_ = zero::make_state_objects(reader->layouts_, placements,
                                              {.gradients = zero::GradientObjects::kLeaveOut});
  STRATA_ASSIGN(reader->io_, io::open_engine({}));
  STRATA_ASSIGN(reader->device_, device::open_host_device({.memory = kBlockAlignment}));

  tiers::StoreOptions store;
  store.run_id = record.run_id;
  store.paths = record.paths;
  store.slots = record.slots;
  store.scratch = record.scratch;
  store.largest_scratch = record.largest_scratch;
  STRATA_ASSIGN(reader->store_, tiers::StateStore::open(store, reader->objects_.stored, *reader->io_));
  const tiers::CommitRecord committed = reader->store_->durable();
  if (committed.generation == 0) return nothing_yet();
  try {
    reader->applied_steps_ = nlohmann::json::parse(committed.metadata).at("applied_steps").get<std::uint64_t>();
  } catch (const nlohmann::json::exception& error) {
    return fail(ErrorCode::kStore, fmt::format("the committed metadata is damaged: {}", error.what()));
  }
  tiers::TierManagerOptions options;
  options.host_budget = round_up(largest, kBlockAlignment) * 3;
  options.page_lock = memory::PageLock::kNone;
  STRATA_ASSIGN(reader->tiers_, tiers::TierManager::create(options, reader->objects_.specs, *reader->device_,
                                                           reader->io_.get(), reader->store_.get()));
  return reader;
}

}  // namespace strata::engine
