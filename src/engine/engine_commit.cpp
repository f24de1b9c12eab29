// Commits, what undoes a step, and how a run ends that can't go on.
#include <algorithm>
#include <chrono>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "engine/engine.hpp"

namespace strata::engine {

Status Engine::usable() const { return ended_by_ ? Status(tl::unexpected(*ended_by_)) : Status(); }

tl::unexpected<Error> Engine::end_run(Error cause, std::string_view what) {
  const tiers::CommitRecord durable = store_->durable();
  cause.message = fmt::format("{}: {}", what, cause.message);
  const std::string remedy = durable.generation == 0
                                 ? "nothing was committed yet: mend the cause and start again"
                                 : fmt::format("mend the cause and resume from step {}", durable.step);
  if (cause.hint.find("resume") == std::string::npos) cause.hint += (cause.hint.empty() ? "" : "; ") + remedy;
  ended_by_ = cause;
  return tl::unexpected(std::move(cause));
}

tl::unexpected<Error> Engine::undo_step(Error cause) {
  // Writes under way end first; their errors belong to versions that are given up.
  static_cast<void>(tiers_->flush());
  const tiers::CommitRecord durable = store_->durable();
  const bool kept = record_.slots > 1 && durable.generation != 0 && durable.step == progress_.step;
  // Twice: what made the step fail may hit the way back as well.
  if (kept && (restore_durable() || restore_durable())) return tl::unexpected(std::move(cause));
  return end_run(std::move(cause), fmt::format("step {} failed half-way and can't be undone here", progress_.step + 1));
}

Status Engine::restore_durable() {
  STRATA_TRY(store_->roll_back());
  for (std::uint32_t id = 0; id < objects_.specs.size(); ++id) {
    const tiers::ObjectSpec& spec = objects_.specs[id];
    if (spec.backing == tiers::Backing::kStore && spec.home == Tier::kDisk) tiers_->discard(ObjectId(id));
  }
  for (const ObjectId id : memory_homes_) STRATA_TRY(tiers_->restore(id));
  return {};
}

tl::unexpected<Error> Engine::cause_of(Error error) {
  STRATA_TRY(wait_commit());
  return tl::unexpected(std::move(error));
}

bool Engine::commit_is_due() const {
  if (options_.mode == Mode::kInMemory) return false;
  return progress_.step % std::max<std::uint64_t>(1, options_.config.strata.commit_interval) == 0;
}

std::string Engine::resume_metadata() const {
  // Canonical: nlohmann's object is sorted, dump() has no spaces.
  return nlohmann::json{{"applied_steps", progress_.applied_steps},
                        {"samples", progress_.samples},
                        {"step", progress_.step},
                        {"lr", current_lr()},
                        {"loss_scale", 1.0}}
      .dump();
}

Status Engine::snapshot_memory_homes() {
  for (const ObjectId id : memory_homes_) {
    if (constant_[id.value] && store_->newest(objects_.specs[id.value].store_id)) continue;
    STRATA_TRY(tiers_->snapshot(id));
  }
  return {};
}

Status Engine::start_commit() {
  if (Status taken = snapshot_memory_homes(); !taken) {
    return end_run(std::move(taken).error(), fmt::format("step {} could not be saved", progress_.step));
  }
  // Runs beside the next step's forward and backward; only its first write waits for it.
  commit_ = std::async(std::launch::async, [this, step = progress_.step, metadata = resume_metadata()]() -> Status {
    STRATA_TRY(tiers_->flush());
    STRATA_TRY(store_->commit(step, metadata));
    return store_->wait_durable();
  });
  return {};
}

Status Engine::wait_commit() {
  if (!commit_.valid()) return {};
  const auto start = std::chrono::steady_clock::now();
  Status status = commit_.get();
  commit_wait_s_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (status) return {};
  return end_run(std::move(status).error(), fmt::format("step {} could not be saved", progress_.step));
}

Status Engine::save() {
  STRATA_TRY(usable());
  STRATA_TRY(runtime_->enter());
  STRATA_TRY(wait_commit());
  const tiers::CommitRecord durable = store_->durable();
  if (durable.generation != 0 && durable.step == progress_.step) return {};
  STRATA_TRY(start_commit());
  return wait_commit();
}

}  // namespace strata::engine
