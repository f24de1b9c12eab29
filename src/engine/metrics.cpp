#include "engine/metrics.hpp"

#include <cerrno>
#include <cmath>
#include <ctime>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/version.hpp"

namespace strata::engine {
namespace {

using nlohmann::json;

constexpr const char* kSchema = "strata.metrics/1";

json number(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

json by_tier(const std::array<Bytes, kTierCount>& bytes) {
  json object = json::object();
  for (std::size_t t = 0; t < kTierCount; ++t) object[std::string(name_of(static_cast<Tier>(t)))] = bytes[t].value;
  return object;
}

json document(const char* kind) {
  return {{"schema", kSchema}, {"strata_version", kVersion}, {"commit", kCommit}, {"kind", kind}};
}

}  // namespace

Result<std::unique_ptr<MetricsWriter>> MetricsWriter::open(const std::filesystem::path& file) {
  std::error_code ignored;
  const auto found = std::filesystem::exists(file, ignored) ? File::kFound : File::kMade;
  std::ofstream out(file, std::ios::app | std::ios::binary);
  if (!out) {
    return fail(ErrorCode::kUsage, fmt::format("cannot write the metrics file '{}'", file.string()),
                "give a --metrics file in a writable folder", errno);
  }
  return std::unique_ptr<MetricsWriter>(new MetricsWriter(file, std::move(out), found));
}

MetricsWriter::~MetricsWriter() {
  std::error_code ignored;
  if (file_ == File::kMade && std::filesystem::file_size(path_, ignored) == 0) std::filesystem::remove(path_, ignored);
}

Status MetricsWriter::drop_torn_line() {
  std::ifstream in(path_, std::ios::binary | std::ios::ate);
  const std::streamoff size = in.tellg();
  std::streamoff end = size;
  // Lines are short, so one byte at a time is quick enough.
  while (end > 0 && in.seekg(end - 1) && in.peek() != '\n') --end;
  if (!in || end == size) return {};
  std::error_code failed;
  std::filesystem::resize_file(path_, static_cast<std::uintmax_t>(end), failed);
  if (!failed) return {};
  return fail(ErrorCode::kIo, fmt::format("cannot drop the torn last line of '{}'", path_.string()),
              "give another --metrics file", failed.value());
}

Status MetricsWriter::put(const std::string& line) {
  out_ << line << '\n';
  out_.flush();
  if (!out_) {
    return fail(ErrorCode::kIo, fmt::format("cannot append to the metrics file '{}'", path_.string()),
                "free some space, or train without --metrics", errno);
  }
  return {};
}

Status MetricsWriter::write(const MetricsHeader& header) {
  // A device or a pipe has no last line.
  if (std::error_code ignored; std::filesystem::is_regular_file(path_, ignored)) STRATA_TRY(drop_torn_line());
  json line = document("header");
  json lanes = {{"compute", nullptr}, {"cpu_optimizer", nullptr}, {"h2d", nullptr}, {"d2h", nullptr}};
  for (std::size_t i = 0; i < header.paths.size(); ++i) {
    lanes[fmt::format("disk_read:{}", i)] = header.paths[i].string();
    lanes[fmt::format("disk_write:{}", i)] = header.paths[i].string();
  }
  line.update({{"run_id", header.run_id},
               {"start_unix_s", static_cast<std::uint64_t>(std::time(nullptr))},
               {"rank", 0},
               {"world_size", 1},
               {"seed", header.seed},
               {"device", header.device},
               {"isa", header.isa},
               {"precision", header.precision},
               {"params_total", header.params_total},
               {"params_trainable", header.params_trainable},
               {"micro_batch", header.micro_batch},
               {"accumulation", header.accumulation},
               {"sequence", header.sequence},
               {"resident_baseline_bytes", header.resident_baseline.value},
               {"budget_bytes", by_tier(header.budget)},
               {"lanes", lanes},
               {"resumed_from_step", header.resumed_from_step == 0 ? json(nullptr) : json(header.resumed_from_step)}});
  return put(line.dump());
}

Status MetricsWriter::write(const StepRecord& record, const std::vector<std::filesystem::path>& paths) {
  json line = document("step");
  json stall = json::object();
  for (const auto& [lane, waits] : record.stall) {
    stall[lane] = {{"late", waits.late_s}, {"no_room", waits.no_room_s}, {"queue", waits.queue_s},
                   {"commit", waits.commit_s}};
  }
  const std::string path = paths.empty() ? std::string("none") : paths.front().string();
  line.update({{"step", record.step},
               {"applied_steps", record.applied_steps},
               {"samples", record.samples},
               {"tokens", record.tokens},
               {"loss", number(record.loss)},
               {"eval_loss", nullptr},
               {"lr", {record.lr}},
               {"grad_norm", number(record.grad_norm)},
               {"clip_factor", number(record.clip_factor)},
               {"loss_scale", 1.0},
               {"skipped", record.skipped},
               {"skip_reason", record.skipped ? json(record.skip_reason) : json(nullptr)},
               {"step_s", record.step_s},
               {"tokens_per_s", number(static_cast<double>(record.tokens) / record.step_s)},
               {"compute_s", record.compute_s},
               {"stall_s", stall},
               {"other_s", record.other_s},
               {"bytes", record.bytes},
               {"busy_s", record.busy_s},
               {"peak_bytes", by_tier(record.peak)},
               {"late_count", record.late_count},
               {"wasted_bytes", record.wasted_bytes},
               {"refetched_bytes", record.refetched_bytes},
               {"written_total_bytes", {{path, record.written_total_bytes}}},
               {"read_total_bytes", {{path, record.read_total_bytes}}},
               {"durable_step", record.durable_step},
               {"generation", record.generation}});
  return put(line.dump());
}

Status MetricsWriter::write_end(EndReason reason, std::uint64_t steps, double wall_s,
                                const std::string& state_digest) {
  constexpr const char* names[] = {"done", "interrupted", "error"};
  json line = document("end");
  line.update({{"reason", names[static_cast<std::size_t>(reason)]},
               {"steps", steps},
               {"wall_s", wall_s},
               {"state_digest", state_digest.empty() ? json(nullptr) : json(state_digest)}});
  return put(line.dump());
}

}  // namespace strata::engine
