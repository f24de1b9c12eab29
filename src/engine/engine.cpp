#include "engine/engine.hpp"

#include <chrono>
#include <cmath>
#include <ctime>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "engine/settings.hpp"
#include "engine/state_digest.hpp"
#include "zero/operation_error.hpp"

namespace strata::engine {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Gradients keep the parameters' 16 bits when nothing is added to them, else the config's accumulation type.
DType gradient_type(const Config& config) {
  if (config.precision == Precision::kFp32) return DType::kFloat32;
  return config.accumulation == 1 ? DType::kBFloat16 : config.grad_accum_dtype;
}

constexpr int kAdviceRounds = 32;

struct Prepared {
  std::vector<zero::UnitLayout> layouts;
  MemoryPlan plan;
  std::uint64_t sub_group_elements = 0;
};

Result<Prepared> prepare_once(const EngineOptions& options, std::optional<std::uint64_t> sub_group_elements) {
  Prepared prepared;
  prepared.sub_group_elements =
      sub_group_elements.value_or(choose_sub_group(options.config, options.mode == Mode::kInMemory
                                                                       ? options.device_memory
                                                                       : options.host_memory));
  STRATA_ASSIGN(prepared.layouts,
                zero::lay_out(options.units, {.world_size = 1, .sub_group_elements = prepared.sub_group_elements}));
  PlanInput input;
  input.layouts = prepared.layouts;
  input.bound_together = options.bound_together;
  input.config = options.config;
  input.mode = options.mode;
  input.recompute = options.recompute;
  input.addressing = options.addressing;
  input.gradient_type = gradient_type(options.config);
  input.activations = options.activations;
  input.device_memory = options.device_memory;
  input.host_memory = options.host_memory;
  input.disk_space = options.disk_space;
  input.paths = std::max<std::size_t>(1, options.paths.size());
  input.steps = options.steps;
  input.device_pool_units = options.device_pool_units;
  prepared.plan = plan_memory(input);
  return prepared;
}

Result<Prepared> prepare(const EngineOptions& options, std::optional<std::uint64_t> sub_group_elements) {
  STRATA_ASSIGN(Prepared prepared, prepare_once(options, sub_group_elements));
  if (!prepared.plan.misfit) return prepared;
  // A larger budget changes sub-groups and spills, and so what is needed: the advice is what really led to a fit.
  EngineOptions roomier = options;
  std::optional<MemoryPlan::Misfit> misfit = prepared.plan.misfit;
  for (int round = 0; misfit && round < kAdviceRounds; ++round) {
    Bytes& budget = misfit->tier == Tier::kDevice ? roomier.device_memory
                    : misfit->tier == Tier::kHost ? roomier.host_memory
                                                  : roomier.disk_space;
    budget = round_up(misfit->needed, Bytes(1u << 20));
    STRATA_ASSIGN(const Prepared next, prepare_once(roomier, sub_group_elements));
    misfit = next.plan.misfit;
  }
  std::string& remedy = prepared.plan.misfit->remedy;
  remedy = budget_flags({options.device_memory, options.host_memory, options.disk_space},
                        {roomier.device_memory, roomier.host_memory, roomier.disk_space}) +
           (remedy.empty() ? "" : ", or " + remedy);
  return prepared;
}

tiers::StoreOptions store_options(const RunRecord& record) {
  tiers::StoreOptions options;
  options.run_id = record.run_id;
  options.paths = record.paths;
  options.slots = record.slots;
  options.scratch = record.scratch;
  options.largest_scratch = record.largest_scratch;
  return options;
}

/// LibTorch's exceptions and ours become errors.
Status guarded(const std::function<void()>& work) {
  try {
    work();
    return {};
  } catch (const zero::OperationError& error) {
    return tl::unexpected(error.error());
  } catch (const c10::OutOfMemoryError& error) {
    return fail(ErrorCode::kDoesNotFit, error.what_without_backtrace());
  } catch (const c10::Error& error) {
    return fail(ErrorCode::kInternal, fmt::format("LibTorch: {}", error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return fail(ErrorCode::kInternal, error.what());
  }
}

tl::unexpected<Error> run_exists(const std::filesystem::path& folder) {
  return fail(ErrorCode::kUsage, fmt::format("'{}' holds a run already", folder.string()),
              "continue it with --resume, or give another --out");
}

}  // namespace

Result<MemoryPlan> Engine::plan(const EngineOptions& options) {
  std::optional<std::uint64_t> sub_group_elements;
  if (options.opening == Opening::kResume) {
    STRATA_ASSIGN(const RunRecord record, read_run(options.folder));
    sub_group_elements = record.sub_group_elements;
  }
  STRATA_ASSIGN(Prepared prepared, prepare(options, sub_group_elements));
  return std::move(prepared.plan);
}

Result<std::unique_ptr<Engine>> Engine::open(EngineOptions options) {
  std::unique_ptr<Engine> engine(new Engine());
  engine->options_ = std::move(options);
  EngineOptions& own = engine->options_;
  const bool resume = own.opening == Opening::kResume;
  if (resume) {
    STRATA_ASSIGN(engine->record_, read_run(own.folder));
    STRATA_ASSIGN(engine->run_lock_, lock_run(own.folder, RunUse::kTrain));
    // Again, now that nobody else can change it.
    STRATA_ASSIGN(engine->record_, read_run(own.folder));
  } else if (has_run(own.folder)) {
    return run_exists(own.folder);
  }
  STRATA_ASSIGN(Prepared prepared, prepare(own, resume ? std::optional(engine->record_.sub_group_elements)
                                                       : std::nullopt));
  if (prepared.plan.misfit) return tl::unexpected(misfit_error(prepared.plan));
  engine->layouts_ = std::move(prepared.layouts);
  engine->plan_ = std::move(prepared.plan);
  if (resume) {
    // Slots are fixed when the data file is made; scratch too, so a resume that would need more is refused there.
    engine->plan_.slots = engine->record_.slots;
    if (engine->plan_.scratch > engine->record_.scratch) {
      return fail(ErrorCode::kDoesNotFit, "the run's scratch area was made for a roomier budget and is too small now",
                  "give the host and device memory that the run had before");
    }
  } else {
    STRATA_ASSIGN(engine->record_.run_id, make_run_id());
    engine->record_.created_unix_s = static_cast<std::uint64_t>(std::time(nullptr));
    engine->record_.slots = engine->plan_.slots;
    engine->record_.scratch = engine->plan_.scratch;
    engine->record_.largest_scratch = engine->plan_.largest_scratch;
    engine->record_.sub_group_elements = prepared.sub_group_elements;
    engine->record_.paths = own.paths;
    engine->record_.units = own.units;
  }
  engine->record_.settings = own.settings;
  STRATA_TRY(engine->open_devices());
  engine->describe_objects();
  std::vector<std::filesystem::path> made;
  if (!resume) {
    STRATA_ASSIGN(made, make_folders(own.folder));
  }
  Status opened = engine->open_store();
  if (opened) opened = engine->open_runtime();
  if (opened) return engine;
  // What a refused start has made goes again; a run that somebody else has made meanwhile stays.
  const bool ours = !resume && engine->run_lock_;
  const tiers::StoreOptions store = store_options(engine->record_);
  const std::filesystem::path folder = own.folder;
  const Fd lock = std::move(engine->run_lock_);
  engine.reset();  // closes the data files
  if (ours) {
    if (const Status removed = tiers::remove_store(store); !removed) {
      opened.error().hint += "; " + to_string(removed.error());
    }
    remove_run(folder);
    remove_folders(made);
  }
  return tl::unexpected(std::move(opened).error());
}

Status Engine::open_devices() {
  const StrataConfig& strata = options_.config.strata;
  io::EngineOptions io_options;
  io_options.kind = strata.io_engine == IoEngine::kAuto      ? io::EngineKind::kAuto
                    : strata.io_engine == IoEngine::kIoUring ? io::EngineKind::kUring
                                                             : io::EngineKind::kThreads;
  io_options.queue_depth = options_.config.aio.queue_depth;
  io_options.block_size = options_.config.aio.block_size;
  io_options.threads = options_.config.aio.threads;
  io_options.slow_after_s = strata.io_slow_s;
  io_options.report = options_.report;
  STRATA_ASSIGN(io_, options_.open_io ? options_.open_io(io_options) : io::open_engine(io_options));
  // An arena of zero bytes can't be mapped; one block is the smallest.
  const Bytes pool = std::max(plan_.device_pool, kBlockAlignment);
  STRATA_ASSIGN(device_, device::open_host_device({.memory = pool, .addressing = options_.addressing}));
  STRATA_ASSIGN(activations_, zero::ActivationAllocator::install(plan_.activation_budget));
  return {};
}

void Engine::describe_objects() {
  objects_ = zero::make_state_objects(layouts_, plan_.placements, {.gradient_type = gradient_type(options_.config)});
  constant_.assign(objects_.specs.size(), false);
  for (std::size_t u = 0; u < layouts_.size(); ++u) {
    for (std::size_t s = 0; s < layouts_[u].sections.size(); ++s) {
      const bool frozen = layouts_[u].sections[s].trainable == zero::Trainable::kNo;
      constant_[objects_.units[u][s].parameter.value] = frozen;
    }
  }
  for (std::uint32_t id = 0; id < objects_.specs.size(); ++id) {
    const tiers::ObjectSpec& spec = objects_.specs[id];
    if (spec.backing == tiers::Backing::kStore && spec.home != Tier::kDisk) memory_homes_.push_back(ObjectId(id));
  }
  if (plan_.checkpoints != ActivationHome::kDevice) {
    for (std::uint32_t stage = 0; stage < options_.recomputed_stages; ++stage) {
      tiers::ObjectSpec spec;
      spec.name = fmt::format("stage/{}/input", stage);
      spec.kind = Kind::kActivation;
      spec.bytes = options_.activations.checkpoint_per_stage;
      spec.home = plan_.checkpoints == ActivationHome::kHost ? Tier::kHost : Tier::kDisk;
      spec.backing = spec.home == Tier::kDisk ? tiers::Backing::kScratch : tiers::Backing::kNone;
      spill_slots_.push_back(ObjectId(static_cast<std::uint32_t>(objects_.specs.size())));
      objects_.specs.push_back(std::move(spec));
    }
  }
}

Status Engine::open_store() {
  if (options_.opening == Opening::kResume) {
    if (!record_.data_files_made) {
      // Killed while it made them: nothing was ever written, and what is there may be half a file.
      STRATA_TRY(tiers::remove_store(store_options(record_)));
      return make_store();
    }
    STRATA_ASSIGN(store_, tiers::StateStore::open(store_options(record_), objects_.stored, *io_));
    return write_run(options_.folder, record_);
  }
  STRATA_ASSIGN(Fd lock, lock_run(options_.folder, RunUse::kTrain));
  if (has_run(options_.folder)) return run_exists(options_.folder);
  run_lock_ = std::move(lock);
  return make_store();
}

Status Engine::make_store() {
  // The record comes first, so that whatever is on the paths always has a run that names it.
  STRATA_TRY(write_run(options_.folder, record_));
  STRATA_ASSIGN(store_, tiers::StateStore::create(store_options(record_), objects_.stored, *io_));
  record_.data_files_made = true;
  return write_run(options_.folder, record_);
}

Status Engine::open_runtime() {
  tiers::TierManagerOptions tier_options;
  tier_options.device_pool = plan_.device_pool;
  tier_options.host_budget = std::max(plan_.host_budget, kBlockAlignment);
  STRATA_ASSIGN(tiers_, tiers::TierManager::create(tier_options, objects_.specs, *device_, io_.get(), store_.get()));
  if (options_.report) {
    for (const std::string& shortfall : tiers_->shortfalls()) options_.report(shortfall);
  }
  optimizer_ = std::make_unique<optim::CpuOptimizer>(optim::CpuOptimizerOptions{
      .threads = options_.optimizer_threads, .isa = options_.isa.value_or(kernels::detect_isa())});
  collectives_ = zero::one_rank();
  sink_ = std::make_unique<zero::GradientSink>(layouts_, objects_, *tiers_, *optimizer_, *collectives_);
  zero::OptimizerStepOptions step_options;
  step_options.lookahead = Bytes(plan_.tiers[static_cast<std::size_t>(Tier::kHost)]
                                     .by_kind[static_cast<std::size_t>(Kind::kStaging)]
                                     .value / 2);
  optimizer_step_ =
      std::make_unique<zero::OptimizerStep>(layouts_, objects_, *tiers_, *optimizer_, 0, step_options);
  prefetch::LookaheadOptions lookahead;
  lookahead.objects = options_.lookahead_units;
  lookahead.bytes = bytes_of(DType::kBFloat16, options_.config.zero.prefetch_bucket_size);
  runtime_ = std::make_unique<zero::UnitRuntime>(layouts_, objects_, *tiers_, *collectives_, *sink_, lookahead);
  observer_ = std::make_unique<zero::StorageObserver>(*runtime_);
  return {};
}

Engine::~Engine() {
  if (commit_.valid()) commit_.wait();
  if (runtime_) runtime_->abort();
}

Status Engine::initialize(const zero::ElementSource& source) {
  STRATA_TRY(guarded([&] {
    for (std::uint32_t u = 0; u < layouts_.size(); ++u) {
      zero::value_or_throw(zero::initialize_unit(u, layouts_, objects_, *tiers_, *optimizer_, 0, source));
    }
  }));
  return tiers_->flush();
}

Result<bool> Engine::restore() {
  const tiers::CommitRecord record = store_->durable();
  if (record.generation == 0) return false;
  try {
    const auto document = nlohmann::json::parse(record.metadata);
    progress_.step = record.step;
    progress_.applied_steps = document.at("applied_steps").get<std::uint64_t>();
    progress_.samples = document.at("samples").get<std::uint64_t>();
  } catch (const nlohmann::json::exception& error) {
    return fail(ErrorCode::kStore, fmt::format("the committed metadata of step {} is damaged: {}", record.step,
                                               error.what()),
                "start a new run");
  }
  for (const ObjectId id : memory_homes_) STRATA_TRY(tiers_->restore(id));
  return true;
}

void Engine::begin_step() { sink_->begin_step(); }

void Engine::begin_micro_batch(zero::MicroBatchPosition position) { sink_->begin_micro_batch(position); }

Status Engine::compute(const std::function<void()>& work) {
  STRATA_TRY(usable());
  Status computed = guarded([&] {
    work();
    zero::value_or_throw(runtime_->enter());
  });
  if (!computed) return cause_of(std::move(computed).error());
  return {};
}

double Engine::current_lr() const { return optim::lr_at(schedule_of(options_.config), progress_.applied_steps); }

Result<StepReport> Engine::step(std::uint64_t samples,
                                const std::function<Status(const StepReport&)>& before_commit) {
  STRATA_TRY(usable());
  StepReport report;
  report.step = progress_.step + 1;
  report.lr = current_lr();
  if (Status entered = runtime_->enter(); !entered) return cause_of(std::move(entered).error());
  runtime_->end_step();
  const Result<double> squares = sink_->finish();
  if (!squares) return cause_of(squares.error());
  report.grad_norm = std::sqrt(*squares);
  if (!std::isfinite(report.grad_norm) && options_.config.strata.skip_nonfinite) {
    report.skipped = true;
    report.skip_reason = "gradient not finite";
  }
  // torch's clip_grad_norm_ and DeepSpeed: 1e-6 in the denominator, never above 1.
  const double clip = options_.config.gradient_clipping;
  if (clip > 0 && std::isfinite(report.grad_norm)) {
    report.clip_factor = std::min(1.0, clip / (report.grad_norm + 1e-6));
  }
  STRATA_TRY(wait_commit());
  if (!report.skipped) {
    const kernels::AdamConstants constants =
        optim::adam_constants(adam_settings_of(options_.config, report.lr), progress_.applied_steps + 1,
                              static_cast<float>(report.clip_factor));
    const auto start = std::chrono::steady_clock::now();
    if (Status updated = optimizer_step_->run({&constants, 1}); !updated) {
      return undo_step(std::move(updated).error());
    }
    report.optimizer_compute_s = std::min(optimizer_step_->take_compute_s(), seconds_since(start));
    ++progress_.applied_steps;
  }
  report.applied_steps = progress_.applied_steps;
  progress_.step = report.step;
  progress_.samples += samples;
  for (const zero::UnitObjects& unit : objects_.units) {
    for (const zero::SectionObjects& section : unit) {
      if (section.gradient) tiers_->discard(*section.gradient);
    }
  }
  if (before_commit) {
    if (Status noted = before_commit(report); !noted) {
      return end_run(std::move(noted).error(), fmt::format("step {} could not be recorded", report.step));
    }
  }
  if (commit_is_due()) STRATA_TRY(start_commit());
  return report;
}

void Engine::abort_step() {
  runtime_->abort();
  for (const ObjectId id : spill_slots_) tiers_->discard(id);
}

Result<std::string> Engine::state_digest() {
  STRATA_TRY(usable());
  STRATA_TRY(wait_commit());
  STRATA_TRY(runtime_->enter());
  return digest_state(layouts_, objects_, *tiers_, progress_.applied_steps);
}

tiers::CommitRecord Engine::durable() const { return store_->durable(); }

std::optional<ObjectId> Engine::spill_slot(std::uint32_t stage) const {
  if (stage >= spill_slots_.size()) return std::nullopt;
  return spill_slots_[stage];
}

std::string Engine::io_description() const { return io_->description(); }

std::array<Bytes, kTierCount> Engine::take_peaks() {
  std::array<Bytes, kTierCount> peaks{};
  for (std::size_t t = 0; t < kTierCount; ++t) {
    tiers::Budget& budget = tiers_->budget(static_cast<Tier>(t));
    peaks[t] = budget.use().peak;
    budget.reset_peak();
  }
  peaks[static_cast<std::size_t>(Tier::kDevice)] += activations_->peak();
  activations_->reset_peak();
  return peaks;
}

}  // namespace strata::engine
