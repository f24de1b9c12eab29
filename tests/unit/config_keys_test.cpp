#include <map>
#include <set>
#include <string>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "config/key_table.hpp"
#include "config/key_text.hpp"
#include "config/report_text.hpp"
#include "support/config_text.hpp"

namespace strata::config {
namespace {

using nlohmann::json;

TEST(ConfigKeysTest, RowsAreUniqueAndLieInKnownBlocks) {
  std::set<std::pair<std::string_view, std::string_view>> seen;
  for (const KeyRow* row : all_keys()) {
    EXPECT_TRUE(seen.emplace(row->path, row->only_for).second) << row->path;
    const std::string_view parent = parent_of(row->path);
    const KeyRow* block = parent.empty() ? nullptr : find_key(parent);
    EXPECT_TRUE(parent.empty() || (block != nullptr && is_block(block->type) && block->type != Type::kFreeBlock))
        << row->path;
    EXPECT_EQ(row->type == Type::kChoice, !row->choices.empty()) << row->path;
    EXPECT_EQ(row->refuse == Refuse::kRefusedChoices, !row->refused_choices.empty()) << row->path;
    EXPECT_TRUE(row->replaced_by.empty() || find_key(row->replaced_by) != nullptr) << row->path;
    for (const std::string_view choice : parts_of(row->refused_choices)) {
      EXPECT_TRUE(list_has(row->choices, choice)) << row->path;
    }
  }
}

/// Puts `value` at `path` of a file that is otherwise right, for parameters under a type that knows them.
std::string file_with(const KeyRow& row, json value) {
  json file = json::parse(with_batch(""));
  json* at = &file;
  std::string_view rest = row.path;
  for (std::size_t dot = rest.find('.'); dot != std::string_view::npos; dot = rest.find('.')) {
    at = &(*at)[std::string(rest.substr(0, dot))];
    rest.remove_prefix(dot + 1);
  }
  (*at)[std::string(rest)] = std::move(value);
  if (row.path.starts_with("scheduler.params")) {
    const std::string type = row.only_for.empty() ? "WarmupLR" : std::string(parts_of(row.only_for).front());
    file["scheduler"]["type"] = type;
    const bool total = type == "WarmupDecayLR" || type == "WarmupCosineLR";
    if (total && !file["scheduler"]["params"].contains("total_num_steps")) {
      file["scheduler"]["params"]["total_num_steps"] = 2000;
    }
  }
  return file.dump();
}

bool can_be_loaded(const KeyRow& row) {
  return !row.only_for.starts_with("Muon") && !row.only_for.starts_with("OneCycle") &&
         !row.only_for.starts_with("LRRangeTest") && !row.path.starts_with("zero_optimization.zenflow");
}

TEST(ConfigKeysTest, EveryDefaultIsAccepted) {
  for (const KeyRow* row : all_keys()) {
    if (row->fallback.empty() || !can_be_loaded(*row)) continue;
    if (row->path == "train_batch_size") continue;
    EXPECT_EQ(errors_of(file_with(*row, json::parse(row->fallback))), "") << row->path;
  }
}

TEST(ConfigKeysTest, EveryTypedKeyRefusesAValueOfAnotherType) {
  for (const KeyRow* row : all_keys()) {
    if (row->type == Type::kAny || row->type == Type::kFreeBlock || !can_be_loaded(*row)) continue;
    const json odd =
        row->type == Type::kText || row->type == Type::kTextList ? json(12) : json::array({json::object()});
    const std::string errors = errors_of(file_with(*row, odd));
    EXPECT_NE(errors.find(row->path), std::string::npos) << row->path << ": " << errors;
  }
}

TEST(ConfigKeysTest, EveryAcceptedKeyIsReported) {
  for (const KeyRow* row : all_keys()) {
    if (row->fallback.empty() || !can_be_loaded(*row)) continue;
    const LoadedConfig loaded = load_ok(file_with(*row, json::parse(row->fallback)));
    const KeyReport report = report_of(loaded, row->path);
    EXPECT_EQ(report.origin, Origin::kFile) << row->path;
  }
}

/// Names as DeepSpeed 0.19 has them; a key that is lost from the table would turn into a silent warning.
TEST(ConfigKeysTest, NamesOfDeepSpeedAreKnown) {
  const std::map<std::string, std::vector<std::string>> blocks = {
      {"",
       {"train_batch_size",
        "train_micro_batch_size_per_gpu",
        "gradient_accumulation_steps",
        "gradient_clipping",
        "steps_per_print",
        "wall_clock_breakdown",
        "memory_breakdown",
        "dump_state",
        "prescale_gradients",
        "gradient_predivide_factor",
        "gradient_allreduce_op",
        "sparse_gradients",
        "disable_allgather",
        "dataloader_drop_last",
        "zero_allow_untested_optimizer",
        "zero_force_ds_cpu_optimizer",
        "log_level",
        "compression",
        "quantize_training",
        "use_data_before_expert_parallelism",
        "communication_data_type",
        "seq_parallel_communication_data_type",
        "amp",
        "elasticity",
        "pipeline",
        "tensor_parallel",
        "expert_parallel",
        "sparse_attention",
        "datastates_ckpt",
        "managed_gradient_accumulation"}},
      {"zero_optimization",
       {"stage",
        "contiguous_gradients",
        "reduce_scatter",
        "reduce_bucket_size",
        "use_multi_rank_bucket_allreduce",
        "allgather_partitions",
        "allgather_bucket_size",
        "overlap_comm",
        "load_from_fp32_weights",
        "elastic_checkpoint",
        "offload_param",
        "offload_optimizer",
        "zenflow",
        "sub_group_size",
        "cpu_offload",
        "cpu_offload_param",
        "cpu_offload_use_pin_memory",
        "stage3_prefetch_bucket_size",
        "stage3_param_persistence_threshold",
        "stage3_model_persistence_threshold",
        "stage3_max_live_parameters",
        "stage3_max_reuse_distance",
        "stage3_gather_16bit_weights_on_model_save",
        "stage3_module_granularity_threshold",
        "stage3_use_all_reduce_for_fetch_params",
        "stage3_allgather_sequential",
        "ignore_unused_parameters",
        "legacy_stage1",
        "round_robin_gradients",
        "zero_hpz_partition_size",
        "zero_quantized_weights",
        "zero_quantized_nontrainable_weights",
        "zero_quantized_gradients",
        "zeropp_loco_param",
        "mics_shard_size",
        "mics_hierarchical_params_gather",
        "memory_efficient_linear",
        "pipeline_loading_checkpoint",
        "override_module_apply",
        "log_trace_cache_warnings",
        "enable_sanity_checks",
        "save_muon_momentum_buffer_in_memory",
        "leaf_module"}},
      {"zero_optimization.offload_param",
       {"device", "nvme_path", "buffer_count", "buffer_size", "max_in_cpu", "pin_memory"}},
      {"zero_optimization.offload_optimizer",
       {"device", "nvme_path", "buffer_count", "pin_memory", "pipeline_read", "pipeline_write", "fast_init", "ratio",
        "super_offload", "cpuadam_cores_perc"}},
      {"zero_optimization.zenflow",
       {"topk_ratio", "select_strategy", "select_interval", "update_interval", "overlap_step", "offload", "auto_ratio",
        "full_warm_up_rounds", "pt_reserved_cores_perc"}},
      {"aio", {"block_size", "queue_depth", "intra_op_parallelism", "single_submit", "overlap_events", "use_gds"}},
      {"fp16",
       {"enabled", "auto_cast", "loss_scale", "initial_scale_power", "loss_scale_window", "hysteresis",
        "consecutive_hysteresis", "min_loss_scale", "fp16_master_weights_and_grads"}},
      {"bf16",
       {"enabled", "immediate_grad_update", "check_grad_overflow", "bf16_master_weights_and_grads",
        "bf16_optimizer_states"}},
      {"torch_autocast", {"enabled", "dtype", "lower_precision_safe_modules"}},
      {"data_types", {"grad_accum_dtype", "param_dtype", "buffer_dtype"}},
      {"activation_checkpointing",
       {"partition_activations", "cpu_checkpointing", "contiguous_memory_optimization", "number_checkpoints",
        "synchronize_checkpoint_boundary", "profile"}},
      {"checkpoint",
       {"tag_validation", "load_universal", "use_node_local_storage", "parallel_write", "checkpoint_serialization",
        "writer"}},
      {"checkpoint.writer",
       {"type", "decoupled", "io_buffer_size", "io_buffer_double", "show_statistics", "data_parallel",
        "io_multiplier"}},
      {"nebula",
       {"enabled", "persistent_storage_path", "persistent_time_interval", "num_of_version_in_retention",
        "enable_nebula_load"}},
      {"flops_profiler",
       {"enabled", "recompute_fwd_factor", "profile_step", "module_depth", "top_modules", "detailed", "output_file"}},
      {"comms_logger", {"enabled", "verbose", "prof_all", "debug", "prof_ops"}},
      {"tensorboard", {"enabled", "output_path", "job_name"}},
      {"csv_monitor", {"enabled", "output_path", "job_name"}},
      {"wandb", {"enabled", "group", "team", "project"}},
      {"comet",
       {"enabled", "samples_log_interval", "project", "workspace", "api_key", "experiment_name", "experiment_key",
        "online", "mode"}},
      {"autotuning",
       {"enabled",
        "fast",
        "results_dir",
        "exps_dir",
        "overwrite",
        "start_profile_step",
        "end_profile_step",
        "metric",
        "metric_path",
        "tuner_type",
        "tuner_early_stopping",
        "tuner_num_trials",
        "arg_mappings",
        "max_train_batch_size",
        "min_train_batch_size",
        "max_train_micro_batch_size_per_gpu",
        "min_train_micro_batch_size_per_gpu",
        "num_tuning_micro_batch_sizes",
        "mp_size",
        "model_info"}},
      {"compile",
       {"deepcompile", "offload_activation", "offload_activation_pin_memory", "offload_opt_states",
        "offload_parameters", "double_buffer", "free_activation", "passes"}},
      {"strata",
       {"device_memory", "host_memory", "disk_space", "paths", "io_engine", "io_slow_s", "durable_steps",
        "commit_interval", "pinned_checkpoints", "checkpoint_write_share", "checkpoints_kept", "clipping", "cpu_cores",
        "optimizer_state", "master_weights", "unit_classes", "skip_nonfinite", "ignore_sections", "rated_tbw"}}};
  for (const auto& [block, names] : blocks) {
    for (const std::string& name : names) {
      EXPECT_NE(find_key(block.empty() ? name : block + "." + name), nullptr) << block << "." << name;
    }
  }
}

TEST(ConfigKeysTest, NearestNamesAreNear) {
  EXPECT_EQ(nearest_key("", "gradient_acumulation_steps"), "gradient_accumulation_steps");
  EXPECT_EQ(nearest_key("", "train_batchsize"), "train_batch_size");
  EXPECT_EQ(nearest_key("zero_optimization", "offload_optimiser"), "offload_optimizer");
  EXPECT_EQ(nearest_key("", "device_memory"), "strata.device_memory");
  EXPECT_EQ(nearest_key("", "qwertyuiop"), "");
  EXPECT_EQ(nearest_key("", "x"), "");
  EXPECT_EQ(nearest_key("", std::string(100000, 'a')), "");
}

TEST(ConfigReportTest, TableFitsItsColumnsAndNamesFates) {
  const LoadedConfig loaded = load_ok(with_batch(
      R"("zero_optimization": {"stage": 3, "stage3_gather_fp16_weights_on_model_save": true,
          "offload_param": {"device": "nvme", "nvme_path": "/a/very/long/path/that/does/not/fit/into/the/column"}})"));
  for (const Rows rows : {Rows::kRelevant, Rows::kAll}) {
    std::string text = format_report(loaded, rows);
    EXPECT_THAT(text, testing::HasSubstr("zero_optimization.stage"));
    EXPECT_THAT(text, testing::HasSubstr("accepted without effect"));
    EXPECT_THAT(text, testing::HasSubstr("given as stage3_gather_fp16_weights_on_model_save"));
    for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n')) {
      EXPECT_LE(end, 120u) << text.substr(0, end);
      text.erase(0, end + 1);
    }
  }
  EXPECT_LT(format_report(loaded, Rows::kRelevant).size(), format_report(loaded, Rows::kAll).size());
}

TEST(ConfigReportTest, DocumentHoldsKeysNoticesAndErrors) {
  const LoadOptions options{.source_name = "x.json"};
  const json good = json::parse(check_document(check_text(with_batch(""), options), options));
  EXPECT_EQ(good["schema"], "strata.config_check/1");
  EXPECT_TRUE(good["valid"].get<bool>());
  EXPECT_FALSE(good["keys"].empty());
  const json bad = json::parse(check_document(check_text("{\"train_batch_size\": \"\\u00e4\"}", options), options));
  EXPECT_FALSE(bad["valid"].get<bool>());
  EXPECT_EQ(bad["errors"][0]["path"], "train_batch_size");
  EXPECT_EQ(bad["errors"][0]["line"], 1);
  const json broken = json::parse(check_document(check_text("{", options), options));
  EXPECT_TRUE(broken["keys"].empty());
  EXPECT_EQ(broken["errors"].size(), 1u);
}

TEST(ConfigReportTest, MarkdownHasEveryKey) {
  const std::string text = keys_markdown();
  for (const KeyRow* row : all_keys()) {
    if (is_block(row->type)) continue;
    const std::string in_section = "`" + std::string(row->path.substr(row->path.find('.') + 1)) + "`";
    EXPECT_NE(text.find(in_section), std::string::npos) << row->path;
  }
}

}  // namespace
}  // namespace strata::config
