// A validated configuration: plain values, every default filled, every alias resolved. Made by config::load.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "strata/types.hpp"

namespace strata {

enum class Precision : std::uint8_t { kFp32, kBf16 };
enum class OptimizerType : std::uint8_t { kAdam, kAdamW };
enum class SchedulerType : std::uint8_t { kNone, kWarmupLR, kWarmupDecayLR, kWarmupCosineLR };
enum class WarmupShape : std::uint8_t { kLog, kLinear };
enum class OffloadDevice : std::uint8_t { kNone, kCpu, kNvme };
enum class IoEngine : std::uint8_t { kAuto, kIoUring, kThreads };
enum class Clipping : std::uint8_t { kExact, kOverlapped };
enum class StateFormat : std::uint8_t { kFp32, kBf16, kInt8 };
enum class MasterWeights : std::uint8_t { kAuto, kFp32, kSplit, kBf16 };

struct OptimizerConfig {
  OptimizerType type = OptimizerType::kAdamW;
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  bool adam_w_mode = true;      ///< true even for "Adam", as in DeepSpeed
  bool bias_correction = true;
};

struct SchedulerConfig {
  SchedulerType type = SchedulerType::kNone;
  double warmup_min_lr = 0;
  std::optional<double> warmup_max_lr;  ///< none: the optimizer's lr (WarmupDecayLR: set, 0.001 by default)
  std::uint64_t warmup_num_steps = 1000;
  WarmupShape warmup_type = WarmupShape::kLog;
  std::uint64_t total_num_steps = 0;  ///< 0: "auto" that waits for the number of steps of the run
  double warmup_min_ratio = 0;
  double cos_min_ratio = 1e-4;
};

struct OffloadParamConfig {
  OffloadDevice device = OffloadDevice::kNone;
  std::optional<std::string> nvme_path;
  std::uint64_t max_in_cpu = 1'000'000'000;  ///< elements that stay in host memory although device = nvme
};

struct OffloadOptimizerConfig {
  OffloadDevice device = OffloadDevice::kNone;
  std::optional<std::string> nvme_path;
  double ratio = 1.0;  ///< share of sub-groups that are offloaded; the rest stays one tier nearer
};

struct ZeroConfig {
  std::uint32_t stage = 0;
  std::uint64_t sub_group_size = 1'000'000'000;  ///< elements; upper hint
  std::uint64_t prefetch_bucket_size = 50'000'000;  ///< elements; upper hint
  OffloadParamConfig offload_param;
  OffloadOptimizerConfig offload_optimizer;
};

struct AioConfig {
  Bytes block_size{1u << 20};
  std::uint32_t queue_depth = 32;
  std::uint32_t threads = 8;
};

struct StrataConfig {
  std::optional<Bytes> device_memory;  ///< none: chosen from what is free, and printed
  std::optional<Bytes> host_memory;
  std::optional<Bytes> disk_space;
  std::vector<std::string> paths;      ///< empty: the sections' nvme_path, else the run's folder
  IoEngine io_engine = IoEngine::kAuto;
  double io_slow_s = 30;
  bool durable_steps = true;
  std::uint64_t commit_interval = 1;
  std::uint64_t pinned_checkpoints = 1;
  double checkpoint_write_share = 0.25;  ///< of the disk's bandwidth
  std::uint64_t checkpoints_kept = 2;
  Clipping clipping = Clipping::kExact;
  std::optional<std::uint32_t> cpu_cores;  ///< none: all
  StateFormat optimizer_state = StateFormat::kFp32;
  MasterWeights master_weights = MasterWeights::kAuto;
  std::vector<std::string> unit_classes;
  bool skip_nonfinite = true;
  std::vector<std::string> ignore_sections;
  std::optional<double> rated_tbw;  ///< terabytes written
};

struct Config {
  std::uint32_t world_size = 1;
  std::uint64_t train_batch_size = 1;
  std::uint64_t micro_batch = 1;    ///< train_micro_batch_size_per_gpu
  std::uint64_t accumulation = 1;   ///< gradient_accumulation_steps
  double gradient_clipping = 1.0;   ///< 0: off
  std::uint64_t steps_per_print = 0;
  Precision precision = Precision::kFp32;
  DType grad_accum_dtype = DType::kFloat32;
  OptimizerConfig optimizer;
  SchedulerConfig scheduler;
  ZeroConfig zero;
  AioConfig aio;
  StrataConfig strata;
};

}  // namespace strata
