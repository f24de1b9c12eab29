#include "engine/trainer.hpp"

#include <algorithm>
#include <chrono>

#include <ATen/Functions.h>
#include <fmt/format.h>

#include "base/system_memory.hpp"
#include "io/file.hpp"
#include "model/initialize.hpp"
#include "tiers/store_files.hpp"
#include "zero/operation_error.hpp"

namespace strata::engine {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }
double seconds(std::uint64_t ns) { return static_cast<double>(ns) * 1e-9; }

DType parameter_type(const Config& config) {
  return config.precision == Precision::kBf16 ? DType::kBFloat16 : DType::kFloat32;
}

std::vector<zero::UnitInfo> units_of(const model::Model& model, DType type) {
  std::vector<zero::UnitInfo> units;
  for (const model::UnitSpec& spec : model.units()) {
    zero::UnitInfo unit{spec.name, {}};
    for (const model::ParameterSpec& parameter : spec.parameters) {
      unit.parameters.push_back({parameter.name, parameter.shape, type});
    }
    units.push_back(std::move(unit));
  }
  return units;
}

Status check_data(const model::Model& model, std::int64_t sequence) {
  if (model.vocabulary() < 256) {
    return fail(ErrorCode::kUsage,
                fmt::format("data is read as bytes, whose ids go up to 255, beyond the model's vocabulary of {}",
                            model.vocabulary()),
                "give a model whose vocab_size is at least 256");
  }
  if (sequence < 1 || sequence > model.max_positions()) {
    return fail(ErrorCode::kUsage, fmt::format("--sequence {} is outside 1..{}, the model's positions", sequence,
                                               model.max_positions()),
                "give a --sequence that the model has positions for");
  }
  return {};
}

struct LaneNames {
  const char* id;
  tiers::Lane lane;
};
constexpr LaneNames kLanes[] = {{"disk_read:0", tiers::Lane::kDiskRead},
                                {"disk_write:0", tiers::Lane::kDiskWrite},
                                {"h2d", tiers::Lane::kHostToDevice},
                                {"d2h", tiers::Lane::kDeviceToHost}};

/// Everything that callers waited for, on all lanes.
double stall_s(const tiers::TierStats& stats) {
  std::uint64_t ns = stats.stall_no_room_ns;
  for (const LaneNames& lane : kLanes) ns += stats.stall_late_ns[static_cast<std::size_t>(lane.lane)];
  return seconds(ns);
}

constexpr const char* kDataFingerprint = "data_fingerprint";

}  // namespace

Result<std::unique_ptr<Trainer>> Trainer::open(TrainOptions options) {
  std::unique_ptr<Trainer> trainer(new Trainer());
  STRATA_ASSIGN(trainer->resident_baseline_, resident_memory());
  trainer->options_ = std::move(options);
  TrainOptions& own = trainer->options_;
  STRATA_ASSIGN(trainer->model_, model::load_model(own.model));
  STRATA_TRY(check_data(*trainer->model_, own.sequence));
  STRATA_ASSIGN(trainer->data_, model::ByteDataset::open(own.data, own.sequence));
  if (own.opening == Opening::kNew && has_run(own.out)) {
    return fail(ErrorCode::kUsage, fmt::format("'{}' holds a run already", own.out.string()),
                "continue it with --resume, or give another --out");
  }

  STRATA_TRY(trainer->check_unchanged());

  std::vector<std::uint32_t> uses(trainer->model_->units().size(), 0);
  std::uint32_t recomputed = 0;
  for (const model::StageSpec& stage : trainer->model_->stages()) {
    std::vector<zero::UnitUse> stage_uses;
    for (const std::uint32_t unit : stage.units) stage_uses.push_back({UnitId(unit), uses[unit]++});
    trainer->stage_uses_.push_back(std::move(stage_uses));
    trainer->recompute_index_.push_back(recomputed);
    if (stage.recompute == model::StageSpec::Recompute::kAllowed) ++recomputed;
  }

  STRATA_ASSIGN(const MemoryPlan plan, Engine::plan(trainer->engine_options()));
  if (own.report) own.report(format_plan(plan));
  if (plan.misfit) return tl::unexpected(misfit_error(plan));
  if (own.metrics) {
    STRATA_ASSIGN(trainer->metrics_, MetricsWriter::open(*own.metrics));
  }
  STRATA_ASSIGN(trainer->engine_, Engine::open(trainer->engine_options()));
  trainer->report_buffered_paths();
  STRATA_TRY(trainer->start());
  trainer->last_ = trainer->mark();
  return trainer;
}

Status Trainer::check_unchanged() {
  auto& settings = options_.settings;
  settings.emplace_back(kDataFingerprint, fmt::format("{:016x}", data_->fingerprint()));
  if (options_.opening == Opening::kNew || options_.changed_inputs == ChangedInputs::kAllow) return {};
  STRATA_ASSIGN(const RunRecord record, read_run(options_.out));
  for (const auto& [key, value] : record.settings) {
    if (key == kDataFingerprint && value != settings.back().second) {
      return fail(ErrorCode::kUsage, "the data has changed since the run began, so the same steps would see other text",
                  "restore the data, or add --allow-change");
    }
  }
  return {};
}

void Trainer::report_buffered_paths() const {
  if (!options_.report) return;
  const RunRecord& record = engine_->record();
  for (const auto& path : record.paths) {
    const auto file = io::open_file(tiers::data_file(path, record.run_id),
                                    {.access = io::Access::kRead, .creation = io::Creation::kMustExist});
    if (!file || file->caching == io::Caching::kDirect) continue;
    options_.report(fmt::format("warning: '{}' is on {}, which refuses O_DIRECT: its bytes go through the page cache, "
                                "slower and beyond every budget; give a --path on ext4 or xfs",
                                path.string(), file->file_system));
  }
}

EngineOptions Trainer::engine_options() const {
  const DType type = parameter_type(options_.config);
  EngineOptions engine;
  engine.config = options_.config;
  engine.units = units_of(*model_, type);
  std::uint32_t recomputed = 0;
  for (const model::StageSpec& stage : model_->stages()) {
    engine.bound_together.push_back(stage.units);
    if (stage.recompute == model::StageSpec::Recompute::kAllowed) ++recomputed;
  }
  const auto estimate = model_->activation_estimate(static_cast<std::int64_t>(options_.config.micro_batch),
                                                    options_.sequence, type);
  engine.activations = {estimate.checkpoint_per_stage, estimate.stage_internal, estimate.last_stage, recomputed};
  engine.recomputed_stages = recomputed;
  engine.mode = options_.mode;
  engine.recompute = options_.recompute;
  engine.addressing = options_.addressing;
  engine.opening = options_.opening;
  engine.folder = options_.out;
  engine.paths = options_.paths;
  engine.settings = options_.settings;
  engine.device_memory = options_.device_memory;
  engine.host_memory = options_.host_memory;
  engine.disk_space = options_.disk_space;
  engine.steps = options_.steps;
  engine.optimizer_threads = options_.optimizer_threads;
  engine.isa = options_.isa;
  engine.device_pool_units = options_.device_pool_units;
  engine.report = options_.report;
  return engine;
}

Status Trainer::start() {
  if (options_.opening == Opening::kResume) {
    STRATA_ASSIGN(const bool found, engine_->restore());
    if (found) return {};
    if (options_.report) options_.report("nothing was committed yet: starting from step 1");
  }
  const auto& units = model_->units();
  return engine_->initialize([&](const zero::Segment& segment, std::uint64_t first, std::span<float> out) -> Status {
    if (options_.stop != nullptr && options_.stop->load()) {
      return fail(ErrorCode::kInterrupted, "stopped before the first step",
                  fmt::format("start again with: strata train --resume --out {}", options_.out.string()));
    }
    for (const model::UnitSpec& unit : units) {
      for (const model::ParameterSpec& parameter : unit.parameters) {
        if (parameter.name != segment.name) continue;
        model::initialize_parameter(parameter, options_.seed, first, out);
        return {};
      }
    }
    return fail(ErrorCode::kInternal, fmt::format("no rule to initialise parameter '{}'", segment.name));
  });
}

Result<double> Trainer::micro_batch(std::uint64_t step, std::uint64_t index) {
  const Config& config = options_.config;
  const auto batch = static_cast<std::int64_t>(config.micro_batch);
  double loss_value = 0;
  STRATA_TRY(engine_->compute([&] {
    const at::Tensor ids = at::empty({batch, options_.sequence}, at::kLong);
    const at::Tensor targets = at::empty({batch, options_.sequence}, at::kLong);
    const auto row = static_cast<std::size_t>(options_.sequence);
    const std::uint64_t first = engine_->progress().samples + index * config.micro_batch;
    for (std::size_t b = 0; b < config.micro_batch; ++b) {
      zero::value_or_throw(data_->sample(first + b, options_.seed, {ids.data_ptr<std::int64_t>() + b * row, row},
                                         {targets.data_ptr<std::int64_t>() + b * row, row}));
    }
    at::Tensor activation = ids;
    const std::size_t stages = model_->stages().size();
    for (std::size_t s = 0; s < stages; ++s) {
      model::StageContext context;
      context.key = {options_.seed, step, index, s};
      const at::Tensor stage_targets = s + 1 == stages ? targets : at::Tensor();
      zero::UnitCall call;
      call.uses = stage_uses_[s];
      call.function = [this, s, stage_targets, context](std::span<const at::Tensor> parameters,
                                                        const at::Tensor& input) {
        return model_->run_stage(s, parameters, input, stage_targets, context);
      };
      const bool recompute = options_.recompute == Recompute::kPerUnit &&
                             model_->stages()[s].recompute == model::StageSpec::Recompute::kAllowed;
      activation = recompute ? zero::run_unit_recomputed(engine_->runtime(), engine_->tiers(), call, activation,
                                                         engine_->spill_slot(recompute_index_[s]))
                             : zero::run_unit(engine_->runtime(), call, activation);
    }
    loss_value = activation.item<float>();
    // DeepSpeed: the loss is divided by the accumulation steps before backward.
    const at::Tensor scaled =
        config.accumulation == 1 ? activation : activation.div(static_cast<double>(config.accumulation));
    activation.reset();
    scaled.backward();
  }));
  return loss_value;
}

Trainer::Mark Trainer::mark() const { return {Clock::now(), engine_->tiers().stats(), engine_->commit_wait_s()}; }

void Trainer::fill_lanes(StepRecord& record, const Mark& begin, const Mark& end) const {
  const tiers::TierStats& before = begin.tiers;
  const tiers::TierStats& now = end.tiers;
  for (const LaneNames& lane : kLanes) {
    const auto i = static_cast<std::size_t>(lane.lane);
    record.bytes[lane.id] = now.bytes[i] - before.bytes[i];
    record.busy_s[lane.id] = seconds(now.busy_ns[i] - before.busy_ns[i]);
    LaneStall& stall = record.stall[lane.id];
    stall.late_s = seconds(now.stall_late_ns[i] - before.stall_late_ns[i]);
    if (lane.lane == tiers::Lane::kDiskWrite) {
      stall.no_room_s = seconds(now.stall_no_room_ns - before.stall_no_room_ns);
      stall.commit_s = end.commit_wait_s - begin.commit_wait_s;
    }
  }
  record.late_count = now.late_count - before.late_count;
  record.wasted_bytes = now.wasted_bytes - before.wasted_bytes;
  record.refetched_bytes = now.refetched_bytes - before.refetched_bytes;
  record.written_total_bytes = now.bytes[static_cast<std::size_t>(tiers::Lane::kDiskWrite)];
  record.read_total_bytes = now.bytes[static_cast<std::size_t>(tiers::Lane::kDiskRead)];
  record.step_s = seconds(end.time - begin.time);
  record.compute_s = std::min(record.compute_s, record.step_s);
  // Waits of the thread that commits run beside the step: all of them together get what compute leaves.
  double stalled = 0;
  for (const auto& [lane, stall] : record.stall) stalled += stall.total();
  const double room = record.step_s - record.compute_s;
  if (stalled > room) {
    for (auto& [lane, stall] : record.stall) stall.scale(room / stalled);
    stalled = room;
  }
  record.other_s = room - stalled;
}

Result<StepRecord> Trainer::train_step() {
  const Config& config = options_.config;
  StepRecord record;
  engine_->begin_step();
  double loss = 0;
  const std::uint64_t step = engine_->progress().step + 1;
  const Mark before_compute = mark();
  for (std::uint64_t m = 0; m < config.accumulation; ++m) {
    engine_->begin_micro_batch(m + 1 == config.accumulation ? zero::MicroBatchPosition::kLast
                                                            : zero::MicroBatchPosition::kNotLast);
    auto value = micro_batch(step, m);
    if (!value) {
      engine_->abort_step();
      return tl::unexpected(std::move(value).error());
    }
    loss += *value;
  }
  record.loss = loss / static_cast<double>(config.accumulation);
  const Mark after_compute = mark();
  const double waited = stall_s(after_compute.tiers) - stall_s(before_compute.tiers);
  record.compute_s = std::max(0.0, seconds(after_compute.time - before_compute.time) - waited);
  STRATA_TRY(engine_->step(config.micro_batch * config.accumulation, [&](const StepReport& report) -> Status {
    complete(record, report);
    return metrics_ ? metrics_->write(record, options_.paths) : Status();
  }));
  return record;
}

void Trainer::complete(StepRecord& record, const StepReport& report) {
  const Config& config = options_.config;
  record.step = report.step;
  record.total_steps = options_.steps;
  record.applied_steps = report.applied_steps;
  record.samples = engine_->progress().samples;
  record.tokens = config.micro_batch * config.accumulation * static_cast<std::uint64_t>(options_.sequence);
  record.lr = report.lr;
  record.grad_norm = report.grad_norm;
  record.clip_factor = report.clip_factor;
  record.skipped = report.skipped;
  record.skip_reason = report.skip_reason;
  record.peak = engine_->take_peaks();
  const tiers::CommitRecord durable = engine_->durable();
  record.durable_step = durable.step;
  record.generation = durable.generation;
  record.compute_s += report.optimizer_compute_s;
  const Mark end = mark();
  fill_lanes(record, last_, end);
  last_ = end;
}

MetricsHeader Trainer::header(std::uint64_t resumed_from) const {
  MetricsHeader header;
  header.run_id = engine_->record().run_id;
  header.seed = options_.seed;
  header.device = "cpu";
  header.isa = std::string(kernels::name_of(engine_->isa()));
  header.precision = options_.config.precision == Precision::kBf16 ? "bf16" : "fp32";
  header.params_total = model::parameter_count(*model_);
  header.params_trainable = header.params_total;
  header.micro_batch = options_.config.micro_batch;
  header.accumulation = options_.config.accumulation;
  header.sequence = static_cast<std::uint64_t>(options_.sequence);
  header.resident_baseline = resident_baseline_;
  header.budget = {options_.device_memory, options_.host_memory, options_.disk_space};
  header.paths = options_.paths;
  header.resumed_from_step = resumed_from;
  return header;
}

Result<TrainSummary> Trainer::run() {
  const auto start = Clock::now();
  TrainSummary summary;
  const std::uint64_t resumed_from = engine_->progress().step;
  summary.first_step = resumed_from + 1;
  summary.parameters = model::parameter_count(*model_);
  for (const auto& object : engine_->objects().stored) summary.state += object.bytes;
  summary.unigram_entropy = data_->unigram_entropy();
  summary.budget = {options_.device_memory, options_.host_memory, options_.disk_space};
  if (metrics_) STRATA_TRY(metrics_->write(header(resumed_from)));

  if (resumed_from >= options_.steps && options_.report) {
    options_.report(fmt::format("nothing to do: the run has {} steps already, {} were asked for; a larger --steps "
                                "continues it", resumed_from, options_.steps));
  }
  double timed_s = 0;
  std::uint64_t timed_tokens = 0;
  Status trained;
  last_ = mark();
  while (engine_->progress().step < options_.steps) {
    if (options_.stop != nullptr && options_.stop->load()) {
      summary.reason = EndReason::kInterrupted;
      break;
    }
    auto record = train_step();
    if (!record) {
      trained = tl::unexpected(std::move(record).error());
      break;
    }
    if (record->step == summary.first_step) {
      summary.first_loss = record->loss;
    } else {
      timed_s += record->step_s;
      timed_tokens += record->tokens;
    }
    summary.last_loss = record->loss;
    for (std::size_t t = 0; t < kTierCount; ++t) summary.peak[t] = std::max(summary.peak[t], record->peak[t]);
    if (options_.on_step) options_.on_step(*record);
  }
  summary.last_step = engine_->progress().step;
  summary.tokens_per_s = timed_s > 0 ? static_cast<double>(timed_tokens) / timed_s : 0;
  if (!trained) {
    if (metrics_)
      STRATA_TRY(metrics_->write_end(EndReason::kError, summary.last_step, seconds(Clock::now() - start), ""));
    return tl::unexpected(std::move(trained).error());
  }
  STRATA_TRY(engine_->save());
  STRATA_ASSIGN(summary.state_digest, engine_->state_digest());
  const tiers::TierStats stats = engine_->tiers().stats();
  summary.disk_read_bytes = stats.bytes[static_cast<std::size_t>(tiers::Lane::kDiskRead)];
  summary.disk_written_bytes = stats.bytes[static_cast<std::size_t>(tiers::Lane::kDiskWrite)];
  summary.wall_s = seconds(Clock::now() - start);
  if (metrics_)
    STRATA_TRY(metrics_->write_end(summary.reason, summary.last_step, summary.wall_s, summary.state_digest));
  return summary;
}

}  // namespace strata::engine
