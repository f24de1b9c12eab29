// Cells become the plain structs of strata/config.hpp.
#include <algorithm>

#include "base/check.hpp"
#include "config/draft.hpp"

namespace strata::config {
namespace {

template <class Enum, std::size_t N>
Enum enum_of(const std::string& text, const std::pair<std::string_view, Enum> (&names)[N]) {
  for (const auto& [name, value] : names) {
    if (name == text) return value;
  }
  STRATA_CHECK(false, text);
  return names[0].second;
}

std::optional<double> optional_number(Draft& draft, std::string_view path) {
  if (!draft.is_set(path)) return std::nullopt;
  return draft.number(path);
}

std::optional<std::string> optional_text(Draft& draft, std::string_view path) {
  if (!draft.is_set(path)) return std::nullopt;
  return draft.text(path);
}

std::optional<Bytes> optional_size(Draft& draft, std::string_view path) {
  if (!draft.is_set(path)) return std::nullopt;
  return Bytes(draft.count(path));
}

OptimizerConfig build_optimizer(Draft& draft) {
  OptimizerConfig config;
  config.type = draft.text("optimizer.type") == "Adam" ? OptimizerType::kAdam : OptimizerType::kAdamW;
  config.lr = draft.number("optimizer.params.lr");
  const auto& betas = draft.cell("optimizer.params.betas")->value;
  config.beta1 = betas[0].get<double>();
  config.beta2 = betas[1].get<double>();
  config.eps = draft.number("optimizer.params.eps");
  config.weight_decay = draft.number("optimizer.params.weight_decay");
  config.adam_w_mode = draft.flag("optimizer.params.adam_w_mode");
  config.bias_correction = draft.flag("optimizer.params.bias_correction");
  return config;
}

SchedulerConfig build_scheduler(Draft& draft) {
  SchedulerConfig config;
  if (!draft.is_set("scheduler.type")) return config;
  config.type =
      enum_of<SchedulerType>(draft.text("scheduler.type"), {{"WarmupLR", SchedulerType::kWarmupLR},
                                                            {"WarmupDecayLR", SchedulerType::kWarmupDecayLR},
                                                            {"WarmupCosineLR", SchedulerType::kWarmupCosineLR}});
  const std::string params = "scheduler.params.";
  if (config.type != SchedulerType::kWarmupCosineLR) {
    config.warmup_min_lr = draft.number(params + "warmup_min_lr");
    config.warmup_max_lr = optional_number(draft, params + "warmup_max_lr");
  } else {
    config.warmup_min_ratio = draft.number(params + "warmup_min_ratio");
    config.cos_min_ratio = draft.number(params + "cos_min_ratio");
  }
  config.warmup_num_steps = draft.count(params + "warmup_num_steps");
  config.warmup_type = draft.text(params + "warmup_type") == "linear" ? WarmupShape::kLinear : WarmupShape::kLog;
  if (draft.is_set(params + "total_num_steps")) config.total_num_steps = draft.count(params + "total_num_steps");
  return config;
}

OffloadDevice device_of(Draft& draft, std::string_view path) {
  return enum_of<OffloadDevice>(
      draft.text(path), {{"none", OffloadDevice::kNone}, {"cpu", OffloadDevice::kCpu}, {"nvme", OffloadDevice::kNvme}});
}

ZeroConfig build_zero(Draft& draft) {
  const std::string zero = "zero_optimization.";
  ZeroConfig config;
  config.stage = static_cast<std::uint32_t>(draft.count(zero + "stage"));
  config.sub_group_size = draft.count(zero + "sub_group_size");
  config.prefetch_bucket_size = draft.count(zero + "stage3_prefetch_bucket_size");
  config.offload_param.device = device_of(draft, zero + "offload_param.device");
  config.offload_param.nvme_path = optional_text(draft, zero + "offload_param.nvme_path");
  config.offload_param.max_in_cpu = draft.count(zero + "offload_param.max_in_cpu");
  config.offload_optimizer.device = device_of(draft, zero + "offload_optimizer.device");
  config.offload_optimizer.nvme_path = optional_text(draft, zero + "offload_optimizer.nvme_path");
  config.offload_optimizer.ratio = draft.number(zero + "offload_optimizer.ratio");
  return config;
}

AioConfig build_aio(Draft& draft) {
  AioConfig config;
  const Bytes block(round_down(draft.count("aio.block_size"), kBlockAlignment.value));
  config.block_size = std::max(block, kBlockAlignment);
  config.queue_depth = static_cast<std::uint32_t>(draft.count("aio.queue_depth"));
  config.threads = static_cast<std::uint32_t>(draft.count("aio.intra_op_parallelism"));
  return config;
}

StrataConfig build_strata(Draft& draft) {
  StrataConfig config;
  config.device_memory = optional_size(draft, "strata.device_memory");
  config.host_memory = optional_size(draft, "strata.host_memory");
  config.disk_space = optional_size(draft, "strata.disk_space");
  config.paths = draft.texts("strata.paths");
  config.io_engine =
      enum_of<IoEngine>(draft.text("strata.io_engine"),
                        {{"auto", IoEngine::kAuto}, {"io_uring", IoEngine::kIoUring}, {"threads", IoEngine::kThreads}});
  config.io_slow_s = draft.number("strata.io_slow_s");
  config.durable_steps = draft.flag("strata.durable_steps");
  config.commit_interval = draft.count("strata.commit_interval");
  config.pinned_checkpoints = draft.count("strata.pinned_checkpoints");
  config.checkpoint_write_share = draft.number("strata.checkpoint_write_share");
  config.checkpoints_kept = draft.count("strata.checkpoints_kept");
  config.clipping = draft.text("strata.clipping") == "exact" ? Clipping::kExact : Clipping::kOverlapped;
  if (draft.cell("strata.cpu_cores")->value.is_number()) {
    config.cpu_cores = static_cast<std::uint32_t>(draft.count("strata.cpu_cores"));
  }
  config.optimizer_state =
      enum_of<StateFormat>(draft.text("strata.optimizer_state"),
                           {{"fp32", StateFormat::kFp32}, {"bf16", StateFormat::kBf16}, {"int8", StateFormat::kInt8}});
  config.master_weights = enum_of<MasterWeights>(draft.text("strata.master_weights"), {{"auto", MasterWeights::kAuto},
                                                                                       {"fp32", MasterWeights::kFp32},
                                                                                       {"split", MasterWeights::kSplit},
                                                                                       {"bf16", MasterWeights::kBf16}});
  config.unit_classes = draft.texts("strata.unit_classes");
  config.skip_nonfinite = draft.flag("strata.skip_nonfinite");
  config.ignore_sections = draft.texts("strata.ignore_sections");
  config.rated_tbw = optional_number(draft, "strata.rated_tbw");
  return config;
}

}  // namespace

Config build_config(Draft& draft) {
  Config config;
  config.world_size = draft.options().world_size;
  config.train_batch_size = draft.count("train_batch_size");
  config.micro_batch = draft.count("train_micro_batch_size_per_gpu");
  config.accumulation = draft.count("gradient_accumulation_steps");
  config.gradient_clipping = draft.number("gradient_clipping");
  if (draft.is_set("steps_per_print")) config.steps_per_print = draft.count("steps_per_print");
  config.precision = draft.flag("bf16.enabled") ? Precision::kBf16 : Precision::kFp32;
  config.grad_accum_dtype = draft.text("data_types.grad_accum_dtype") == "bf16" ? DType::kBFloat16 : DType::kFloat32;
  config.optimizer = build_optimizer(draft);
  config.scheduler = build_scheduler(draft);
  config.zero = build_zero(draft);
  config.aio = build_aio(draft);
  config.strata = build_strata(draft);
  return config;
}

}  // namespace strata::config
