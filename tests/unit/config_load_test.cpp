#include "config/load.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/config_text.hpp"

namespace strata::config {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(ConfigLoadTest, ErrorSaysPlacePathValueAllowedAndRemedy) {
  const auto loaded =
      load_text("{\"train_batch_size\": 1,\n \"zero_optimization\": {\"stage\": 7}}", {.source_name = "ds.json"});
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code, ErrorCode::kConfig);
  EXPECT_EQ(loaded.error().message,
            "ds.json:2:24: zero_optimization.stage = 7: not allowed: an integer from 0 to 3; "
            "leave it out for the default, 0");
}

TEST(ConfigLoadTest, AllErrorsAreReportedTogetherInTheOrderOfTheFile) {
  const std::string errors = errors_of(with_batch(R"(
      "bf16": {"enabled": 3},
      "aio": {"queue_depth": 0},
      "strata": {"host_memory": "8 GiBB"})"));
  EXPECT_LT(errors.find("bf16.enabled"), errors.find("aio.queue_depth"));
  EXPECT_LT(errors.find("aio.queue_depth"), errors.find("strata.host_memory"));
  EXPECT_EQ(std::ranges::count(errors, '\n'), 2);
}

TEST(ConfigLoadTest, ErrorsStayOneLineEach) {
  const std::string errors = errors_of(with_batch(R"("strata": {"x\ny\u0007": "a\nb"})"));
  EXPECT_THAT(errors, HasSubstr("strata.x?y?"));
  EXPECT_EQ(errors.find('\n'), std::string::npos);
}

TEST(ConfigLoadTest, WrongTypesAreRefused) {
  struct Case {
    const char* members;
    const char* part;
  };
  for (const Case& c :
       {Case{R"("zero_optimization": 3)", "zero_optimization = 3: not allowed: an object"},
        Case{R"("zero_optimization": {"stage": 2.5})", "round it"},
        Case{R"("zero_optimization": {"stage": "3"})", "without quotes"},
        Case{R"("zero_optimization": {"stage": true})", "an integer"},
        Case{R"("zero_optimization": {"stage": null})", "an integer"},
        Case{R"("zero_optimization": {"offload_param": {"device": "nvmee"}})", "did you mean \"nvme\"?"},
        Case{R"("zero_optimization": {"offload_optimizer": {"nvme_path": ["/a", "/b"]}})", "strata.paths"},
        Case{R"("zero_optimization": {"sub_group_size": 0})", ">= 1"},
        Case{R"("gradient_accumulation_steps": -1)", "gradient_accumulation_steps = -1"},
        Case{R"("scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 0}})", "warmup_num_steps = 0"},
        Case{R"("strata": {"paths": [1]})", "a list of texts"}, Case{R"("strata": {"cpu_cores": 0})", "or \"all\""},
        Case{R"("strata": {"device_memory": 0})", "a size above 0"},
        Case{R"("strata": {"checkpoint_write_share": 1.5})", "from 0 to 1"},
        Case{R"("data_types": {"grad_accum_dtype": "fp64"})", "one of fp32, bf16, fp16"},
        Case{R"("steps_per_print": "auto")", "\"auto\" is not known"}}) {
    EXPECT_THAT(errors_of(with_batch(c.members)), HasSubstr(c.part)) << c.members;
  }
  const std::string betas = R"({"train_batch_size": 1, "optimizer": {"type": "Adam", "params": {"betas": [0.9, 1]}}})";
  EXPECT_THAT(errors_of(betas), HasSubstr("optimizer.params.betas = [0.9,1]"));
}

TEST(ConfigLoadTest, UnknownKeyIsAnErrorWhereDeepSpeedErrs) {
  EXPECT_THAT(errors_of(with_batch(R"("zero_optimization": {"stge": 3})")), HasSubstr("did you mean \"stage\"?"));
  EXPECT_THAT(errors_of(with_batch(R"("zero_optimization": {"cpu_offload_params": true})")),
              AllOf(HasSubstr("zero_optimization.cpu_offload_params"), HasSubstr("cpu_offload_param\"?")));
  EXPECT_THAT(errors_of(with_batch(R"("zero_optimization": {"offload_param": {"devise": "cpu"}})")),
              HasSubstr("did you mean \"device\"?"));
  EXPECT_THAT(errors_of(with_batch(R"("strata": {"path": ["/a"]})")), HasSubstr("did you mean \"paths\"?"));
  EXPECT_THAT(errors_of(with_batch(R"("zero_optimization": {"aio": {}})")),
              HasSubstr("\"aio\" belongs at the top level"));
  EXPECT_THAT(errors_of(with_batch(R"("timers": {"throughput": {"x": 1}})")), HasSubstr("timers.throughput.x"));
}

TEST(ConfigLoadTest, UnknownKeyElsewhereIsAWarningWithTheNearestKey) {
  const LoadedConfig loaded = load_ok(with_batch(R"("gradient_cliping": 2, "aio": {"thread_cout": 1}, "stage": 3,
      "zero_optimization.stage": 3, "my_own": 1)"));
  EXPECT_TRUE(notices_have(loaded, "gradient_cliping: unknown key, ignored; did you mean \"gradient_clipping\"?"));
  EXPECT_TRUE(notices_have(loaded, "aio.thread_cout: unknown key, ignored; did you mean \"thread_count\"?"));
  EXPECT_TRUE(notices_have(loaded, "stage: unknown key, ignored; did you mean \"zero_optimization.stage\"?"));
  EXPECT_TRUE(notices_have(loaded, "zero_optimization.stage: unknown key, ignored; nest it"));
  EXPECT_TRUE(notices_have(loaded, "my_own: unknown key, ignored"));
  EXPECT_EQ(loaded.config.zero.stage, 0u);
}

TEST(ConfigLoadTest, DefaultsAreDeepSpeeds) {
  const LoadedConfig loaded = load_ok(with_batch(""));
  const Config& config = loaded.config;
  EXPECT_EQ(config.precision, Precision::kFp32);
  EXPECT_EQ(config.zero.stage, 0u);
  EXPECT_EQ(config.zero.sub_group_size, 1'000'000'000u);
  EXPECT_EQ(config.zero.prefetch_bucket_size, 50'000'000u);
  EXPECT_EQ(config.zero.offload_param.max_in_cpu, 1'000'000'000u);
  EXPECT_EQ(config.optimizer.beta2, 0.999);
  EXPECT_EQ(config.optimizer.eps, 1e-8);
  EXPECT_EQ(config.optimizer.weight_decay, 0);
  EXPECT_TRUE(config.optimizer.adam_w_mode);
  EXPECT_EQ(config.scheduler.type, SchedulerType::kNone);
  EXPECT_EQ(config.grad_accum_dtype, DType::kFloat32);
  EXPECT_EQ(config.strata.commit_interval, 1u);
  EXPECT_EQ(config.strata.io_slow_s, 30);
  EXPECT_FALSE(config.strata.host_memory.has_value());
  EXPECT_EQ(report_of(loaded, "optimizer.params.lr").origin, Origin::kFile);
  EXPECT_EQ(report_of(loaded, "optimizer.params.eps").origin, Origin::kDefault);
}

TEST(ConfigLoadTest, EveryObeyedValueArrives) {
  const Config config = load_ok(R"({
      "train_micro_batch_size_per_gpu": 3, "gradient_accumulation_steps": 4, "gradient_clipping": 0.5,
      "steps_per_print": 7, "bfloat16": {"enabled": "true"}, "data_types": {"grad_accum_dtype": "bf16"},
      "optimizer": {"type": "adam", "params": {"lr": 2e-4, "betas": [0.8, 0.95], "eps": 1e-6, "weight_decay": 0.1,
                    "bias_correction": false, "adam_w_mode": false}},
      "scheduler": {"type": "WarmupCosineLR", "params": {"total_num_steps": 1e3, "warmup_min_ratio": 0.1,
                    "warmup_num_steps": 10, "cos_min_ratio": 0.2, "warmup_type": "linear"}},
      "zero_optimization": {"stage": 3, "sub_group_size": 1e6, "prefetch_bucket_size": 2e6,
                            "offload_param": {"device": "nvme", "nvme_path": "/a", "max_in_cpu": 5},
                            "offload_optimizer": {"device": "nvme", "nvme_path": "/a", "ratio": 0.5}},
      "aio": {"block_size": 10000, "queue_depth": 4, "num_threads": 2},
      "strata": {"device_memory": "1GiB", "host_memory": 1000, "disk_space": "2 GB", "io_engine": "threads",
                 "io_slow_s": 1.5, "durable_steps": false, "commit_interval": 5, "pinned_checkpoints": 2,
                 "checkpoint_write_share": 0.5, "checkpoints_kept": 3, "cpu_cores": 2, "master_weights": "fp32",
                 "unit_classes": ["A"], "skip_nonfinite": false, "rated_tbw": 600}})")
                            .config;
  EXPECT_EQ(config.train_batch_size, 12u);
  EXPECT_EQ(config.gradient_clipping, 0.5);
  EXPECT_EQ(config.steps_per_print, 7u);
  EXPECT_EQ(config.precision, Precision::kBf16);
  EXPECT_EQ(config.grad_accum_dtype, DType::kBFloat16);
  EXPECT_EQ(config.optimizer.type, OptimizerType::kAdam);
  EXPECT_EQ(config.optimizer.lr, 2e-4);
  EXPECT_EQ(config.optimizer.beta1, 0.8);
  EXPECT_EQ(config.optimizer.beta2, 0.95);
  EXPECT_EQ(config.optimizer.eps, 1e-6);
  EXPECT_EQ(config.optimizer.weight_decay, 0.1);
  EXPECT_FALSE(config.optimizer.bias_correction);
  EXPECT_FALSE(config.optimizer.adam_w_mode);
  EXPECT_EQ(config.scheduler.type, SchedulerType::kWarmupCosineLR);
  EXPECT_EQ(config.scheduler.total_num_steps, 1000u);
  EXPECT_EQ(config.scheduler.warmup_min_ratio, 0.1);
  EXPECT_EQ(config.scheduler.warmup_num_steps, 10u);
  EXPECT_EQ(config.scheduler.cos_min_ratio, 0.2);
  EXPECT_EQ(config.scheduler.warmup_type, WarmupShape::kLinear);
  EXPECT_EQ(config.zero.stage, 3u);
  EXPECT_EQ(config.zero.sub_group_size, 1'000'000u);
  EXPECT_EQ(config.zero.prefetch_bucket_size, 2'000'000u);
  EXPECT_EQ(config.zero.offload_param.device, OffloadDevice::kNvme);
  EXPECT_EQ(config.zero.offload_param.nvme_path, "/a");
  EXPECT_EQ(config.zero.offload_param.max_in_cpu, 5u);
  EXPECT_EQ(config.zero.offload_optimizer.device, OffloadDevice::kNvme);
  EXPECT_EQ(config.zero.offload_optimizer.ratio, 0.5);
  EXPECT_EQ(config.aio.block_size, Bytes(8192));
  EXPECT_EQ(config.aio.queue_depth, 4u);
  EXPECT_EQ(config.aio.threads, 2u);
  EXPECT_EQ(config.strata.device_memory, Bytes(1u << 30));
  EXPECT_EQ(config.strata.host_memory, Bytes(1000));
  EXPECT_EQ(config.strata.disk_space, Bytes(2'000'000'000));
  EXPECT_EQ(config.strata.io_engine, IoEngine::kThreads);
  EXPECT_EQ(config.strata.io_slow_s, 1.5);
  EXPECT_FALSE(config.strata.durable_steps);
  EXPECT_EQ(config.strata.commit_interval, 5u);
  EXPECT_EQ(config.strata.pinned_checkpoints, 2u);
  EXPECT_EQ(config.strata.checkpoint_write_share, 0.5);
  EXPECT_EQ(config.strata.checkpoints_kept, 3u);
  EXPECT_EQ(config.strata.cpu_cores, 2u);
  EXPECT_EQ(config.strata.master_weights, MasterWeights::kFp32);
  EXPECT_EQ(config.strata.unit_classes, std::vector<std::string>{"A"});
  EXPECT_FALSE(config.strata.skip_nonfinite);
  EXPECT_EQ(config.strata.rated_tbw, 600);
}

TEST(ConfigLoadTest, AliasesAreReportedAndConflictsRefused) {
  const LoadedConfig loaded = load_ok(with_batch(R"("aio": {"thread_count": 3}, "bfloat16": {"enabled": true})"));
  EXPECT_EQ(loaded.config.aio.threads, 3u);
  EXPECT_EQ(loaded.config.precision, Precision::kBf16);
  EXPECT_EQ(origin_text(report_of(loaded, "aio.intra_op_parallelism")), "alias `thread_count`");
  EXPECT_THAT(errors_of(with_batch(R"("aio": {"thread_count": 3, "num_threads": 4})")), HasSubstr("keep one"));
  EXPECT_EQ(errors_of(with_batch(R"("aio": {"thread_count": 3, "num_threads": 3})")), "");
}

TEST(ConfigLoadTest, DeprecatedKeysMoveToTheNewOnes) {
  const LoadedConfig loaded =
      load_ok(with_batch(R"("zero_optimization": {"stage": 3, "cpu_offload": true, "cpu_offload_param": false})"));
  EXPECT_EQ(loaded.config.zero.offload_optimizer.device, OffloadDevice::kCpu);
  EXPECT_EQ(loaded.config.zero.offload_param.device, OffloadDevice::kNone);
  EXPECT_EQ(origin_text(report_of(loaded, "zero_optimization.offload_optimizer.device")), "alias `cpu_offload`");
  EXPECT_TRUE(notices_have(loaded, "cpu_offload is deprecated"));
  EXPECT_THAT(
      errors_of(with_batch(R"("zero_optimization": {"cpu_offload": true, "offload_optimizer": {"device": "none"}})")),
      HasSubstr("keep only zero_optimization.offload_optimizer"));
  EXPECT_THAT(errors_of(with_batch(R"("zero_optimization": {"cpu_offload": 7})")), HasSubstr("true or false"));
}

TEST(ConfigLoadTest, OldBoolFormIsStageOne) {
  const LoadedConfig loaded = load_ok(with_batch(R"("zero_optimization": true)"));
  EXPECT_EQ(loaded.config.zero.stage, 1u);
  EXPECT_TRUE(notices_have(loaded, "old form"));
  EXPECT_EQ(load_ok(with_batch(R"("zero_optimization": false)")).config.zero.stage, 0u);
}

TEST(ConfigLoadTest, OverridesWinAndAreNamed) {
  LoadOptions options;
  options.overrides = {{"strata.paths", std::vector<std::string>{"/x", "/y"}, "--path"},
                       {"strata.host_memory", std::string("2MiB"), "--host-memory"}};
  const LoadedConfig loaded = load_ok(with_batch(R"("strata": {"paths": ["/a"]})"), options);
  EXPECT_EQ(loaded.config.strata.paths, (std::vector<std::string>{"/x", "/y"}));
  EXPECT_EQ(loaded.config.strata.host_memory, Bytes(2u << 20));
  EXPECT_EQ(origin_text(report_of(loaded, "strata.paths")), "command line --path");

  options.overrides = {{"strata.host_memory", std::string("much"), "--host-memory"}};
  EXPECT_THAT(errors_of(with_batch(""), options), HasSubstr("given by --host-memory"));
  options.overrides = {{"strata.no_such", std::string("much"), "--what"}};
  EXPECT_THAT(errors_of(with_batch(""), options), HasSubstr("--what"));
}

TEST(ConfigLoadTest, FilesThatCannotBeReadAreErrors) {
  const auto folder = std::filesystem::temp_directory_path();
  EXPECT_THAT(load_file(folder / "strata-no-such-file.json", {}).error().message, HasSubstr("no such file"));
  EXPECT_THAT(load_file(folder, {}).error().message, HasSubstr("a folder"));
  const auto path = folder / ("strata-config-" + std::to_string(::getpid()) + ".json");
  std::ofstream(path) << std::string((16u << 20) + 1, ' ');
  EXPECT_THAT(load_file(path, {}).error().message, HasSubstr("larger than 16 MiB"));
  std::ofstream(path) << with_batch("\"gradient_accumulation_steps\": 0");
  EXPECT_THAT(load_file(path, {}).error().message, HasSubstr(path.string() + ":1:"));
  std::ofstream(path) << with_batch("");
  EXPECT_TRUE(load(path.string(), {}).has_value());
  std::filesystem::remove(path);
}

TEST(ConfigLoadTest, LoadTakesTextPathOrBase64) {
  EXPECT_TRUE(load("  // comment\n" + with_batch(""), {}).has_value());
  EXPECT_TRUE(load("eyJ0cmFpbl9iYXRjaF9zaXplIjogNH0=", {}).has_value());  // {"train_batch_size": 4}
  EXPECT_TRUE(load("eyJ0cmFpbl9iYXRjaF9zaXplIjogNH0", {}).has_value());
  EXPECT_THAT(load("no/such/file.json", {}).error().message, HasSubstr("no such file"));
  EXPECT_THAT(load("", {}).error().message, Not(testing::IsEmpty()));
}

}  // namespace
}  // namespace strata::config
