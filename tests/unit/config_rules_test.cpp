// Rules between keys, "auto", what is refused, what is said once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/config_text.hpp"

namespace strata::config {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string with_optimizer(std::string_view optimizer, std::string_view scheduler = "{}") {
  return std::string(R"({"train_batch_size": 1, "optimizer": )") + std::string(optimizer) + R"(, "scheduler": )" +
         std::string(scheduler) + "}";
}

TEST(ConfigRefusalTest, WhatIsNotBuiltIsRefusedByName) {
  struct Case {
    const char* members;
    const char* path;
  };
  for (const Case& c : {
           Case{R"("fp16": {"enabled": true})", "fp16.enabled"},
           Case{R"("amp": {"enabled": true, "opt_level": "O1"})", "amp"},
           Case{R"("torch_autocast": {"enabled": true})", "torch_autocast.enabled"},
           Case{R"("bf16": {"enabled": true, "bf16_master_weights_and_grads": true})",
                "bf16.bf16_master_weights_and_grads"},
           Case{R"("data_types": {"grad_accum_dtype": "fp16"})", "data_types.grad_accum_dtype"},
           Case{R"("sparse_attention": {"mode": "fixed"})", "sparse_attention"},
           Case{R"("compression_training": {"weight_quantization": {"shared_parameters": {"enabled": true}}})",
                "compression_training"},
           Case{R"("data_efficiency": {"enabled": true})", "data_efficiency"},
           Case{R"("curriculum_learning": {"enabled": true})", "curriculum_learning"},
           Case{R"("progressive_layer_drop": {"enabled": true})", "progressive_layer_drop"},
           Case{R"("elasticity": {"enabled": true})", "elasticity"},
           Case{R"("pipeline": {"stages": 2})", "pipeline"},
           Case{R"("tensor_parallel": {"autotp_size": 4})", "tensor_parallel"},
           Case{R"("hybrid_engine": {"enabled": true})", "hybrid_engine.enabled"},
           Case{R"("compile": {"deepcompile": true})", "compile.deepcompile"},
           Case{R"("compile": {"offload_parameters": true})", "compile.offload_parameters"},
           Case{R"("zero_optimization": {"zenflow": {"topk_ratio": 0.1}})", "zero_optimization.zenflow"},
           Case{R"("zero_optimization": {"offload_optimizer": {"super_offload": true}})",
                "zero_optimization.offload_optimizer.super_offload"},
           Case{R"("zero_optimization": {"zero_quantized_weights": true})", "zero_optimization.zero_quantized_weights"},
           Case{R"("zero_optimization": {"legacy_stage1": true})", "zero_optimization.legacy_stage1"},
           Case{R"("scheduler": {"type": "OneCycle", "params": {"cycle_min_lr": 0, "cycle_max_lr": 1}})",
                "scheduler.type"},
           Case{R"("scheduler": {"type": "LRRangeTest"})", "scheduler.type"},
           Case{R"("managed_gradient_accumulation": false)", "managed_gradient_accumulation"},
           Case{R"("strata": {"clipping": "overlapped"})", "strata.clipping"},
           Case{R"("strata": {"optimizer_state": "int8"})", "strata.optimizer_state"},
           Case{R"("strata": {"master_weights": "bf16"})", "strata.master_weights"},
           Case{R"("strata": {"master_weights": "split"})", "strata.master_weights"},
       }) {
    const std::string errors = errors_of(with_batch(c.members));
    EXPECT_THAT(errors, AllOf(HasSubstr(std::string(c.path) + " = "), HasSubstr("not supported"))) << c.members;
    EXPECT_EQ(errors.find('\n'), std::string::npos) << errors;
  }
  for (const char* type : {"Lamb", "OneBitAdam", "lion", "MUON", "sgd", "Adagrad", "ZeroOneAdam"}) {
    const std::string optimizer = std::string(R"({"type": ")") + type + R"(", "params": {"lr": 1, "own": 2}})";
    EXPECT_THAT(errors_of(with_optimizer(optimizer)), AllOf(HasSubstr("optimizer.type"), HasSubstr("not supported")));
  }
}

TEST(ConfigRefusalTest, DisabledSectionsPass) {
  const LoadedConfig loaded = load_ok(with_batch(R"(
      "fp16": {"enabled": false, "loss_scale": 0, "hysteresis": 2}, "amp": {"enabled": false}, "sparse_attention": {},
      "compression_training": {"weight_quantization": {"shared_parameters": {"enabled": false}}},
      "elasticity": {"enabled": false, "max_train_batch_size": 2000}, "pipeline": {"stages": "auto"},
      "tensor_parallel": {"autotp_size": 1}, "zero_optimization": {"zenflow": null, "offload_param": null})"));
  EXPECT_EQ(report_of(loaded, "fp16.enabled").fate, Fate::kObeyed);
}

TEST(ConfigRefusalTest, IgnoredSectionsBecomeNotices) {
  const LoadedConfig loaded = load_ok(with_batch(R"(
      "amp": {"enabled": true}, "fp16": {"enabled": true, "loss_scale": -5},
      "zero_optimization": {"stage": 3, "zenflow": {"topk_ratio": 7}},
      "strata": {"ignore_sections": ["amp", "fp16", "zenflow", "elasticity"]})"));
  EXPECT_TRUE(notices_have(loaded, "amp: ignored"));
  EXPECT_TRUE(notices_have(loaded, "zero_optimization.zenflow: ignored"));
  EXPECT_FALSE(notices_have(loaded, "elasticity"));
  EXPECT_EQ(report_of(loaded, "amp").fate, Fate::kNoEffect);
  EXPECT_EQ(loaded.config.precision, Precision::kFp32);
  EXPECT_EQ(loaded.config.strata.ignore_sections.size(), 4u);
  EXPECT_THAT(errors_of(with_batch(R"("strata": {"ignore_sections": ["optimizer"]})")), HasSubstr("can be ignored"));
  EXPECT_THAT(errors_of(with_batch(R"("strata": {"ignore_sections": ["amq"]})")), HasSubstr("did you mean \"amp\"?"));
}

TEST(ConfigRefusalTest, RefusedKeysShowInTheReport) {
  const CheckResult result = check_text(with_batch(R"("fp16": {"enabled": true})"), {});
  EXPECT_EQ(result.issues.size(), 1u);
  EXPECT_EQ(report_of(result.loaded, "fp16.enabled").fate, Fate::kRefused);
}

TEST(ConfigAutoTest, TrainerDefaultsAreFilledAndReported) {
  const std::string text = R"({"train_batch_size": 1, "gradient_clipping": "auto", "bf16": {"enabled": "auto"},
      "optimizer": {"type": "AdamW",
                    "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}},
      "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_min_lr": "auto", "warmup_max_lr": "auto",
                    "warmup_num_steps": "auto", "total_num_steps": "auto"}},
      "zero_optimization": {"stage": 3, "reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto",
                            "stage3_param_persistence_threshold": "auto", "overlap_comm": "auto"}})";
  const LoadedConfig loaded = load_ok(text, {.total_steps = 500, .hidden_size = 4096});
  EXPECT_EQ(loaded.config.optimizer.lr, 5e-5);
  EXPECT_EQ(loaded.config.optimizer.beta1, 0.9);
  EXPECT_EQ(loaded.config.gradient_clipping, 1.0);
  EXPECT_EQ(loaded.config.precision, Precision::kFp32);
  EXPECT_EQ(loaded.config.scheduler.warmup_max_lr, 5e-5);
  EXPECT_EQ(loaded.config.scheduler.warmup_num_steps, 0u);
  EXPECT_EQ(loaded.config.scheduler.total_num_steps, 500u);
  EXPECT_EQ(loaded.config.zero.prefetch_bucket_size, 15099494u);
  EXPECT_EQ(report_of(loaded, "zero_optimization.reduce_bucket_size").value, "16777216");
  EXPECT_EQ(report_of(loaded, "zero_optimization.stage3_param_persistence_threshold").value, "40960");
  for (const char* path : {"optimizer.params.lr", "gradient_clipping", "scheduler.params.total_num_steps",
                           "zero_optimization.reduce_bucket_size", "zero_optimization.overlap_comm"}) {
    EXPECT_EQ(report_of(loaded, path).origin, Origin::kAutoFilled) << path;
  }
  EXPECT_TRUE(notices_have(loaded, "optimizer.params.lr = 5e-05"));
  const LoadedConfig unknown = load_ok(text);  // `config check` knows neither steps nor model
  EXPECT_EQ(unknown.config.scheduler.total_num_steps, 0u);
  EXPECT_EQ(unknown.config.zero.prefetch_bucket_size, 50'000'000u);
}

TEST(ConfigOptimizerTest, ParametersAreChecked) {
  EXPECT_THAT(errors_of(with_optimizer(R"({"type": "AdamW", "params": {"max_grad_norm": 1.0}})")),
              HasSubstr("set gradient_clipping instead"));
  EXPECT_THAT(errors_of(with_optimizer(R"({"type": "AdamW", "params": {"learning_rate": 1.0}})")),
              HasSubstr("not a parameter of AdamW"));
  EXPECT_THAT(errors_of(with_optimizer(R"({"params": {"lr": 1.0}})")), HasSubstr("optimizer.type: missing"));
  EXPECT_THAT(errors_of(with_optimizer(R"({"type": "AdamX"})")), HasSubstr("did you mean \"Adam\"?"));
  EXPECT_THAT(errors_of(with_optimizer(R"({"type": "AdamW", "params": {"lr": -1}})")), HasSubstr(">= 0"));
  EXPECT_THAT(errors_of(with_optimizer(R"({"type": "AdamW", "params": {"amsgrad": true}})")),
              HasSubstr("not supported"));
  EXPECT_THAT(errors_of(with_optimizer(R"({"type": 5, "params": []})")), HasSubstr("optimizer.type = 5"));
}

TEST(ConfigOptimizerTest, DecayModesFollowDeepSpeed) {
  const LoadedConfig adam = load_ok(with_optimizer(R"({"type": "Adam", "params": {"weight_decay": 0.1}})"));
  EXPECT_TRUE(adam.config.optimizer.adam_w_mode);
  EXPECT_TRUE(notices_have(adam, "Adam decouples"));
  const LoadedConfig forced = load_ok(with_optimizer(R"({"type": "AdamW", "params": {"adam_w_mode": false}})"));
  EXPECT_TRUE(forced.config.optimizer.adam_w_mode);
  const LoadedConfig torch = load_ok(with_optimizer(R"({"type": "AdamW", "params": {"torch_adam": true}})"));
  EXPECT_EQ(torch.config.optimizer.weight_decay, 0.01);
  EXPECT_TRUE(notices_have(torch, "torch_adam"));
}

TEST(ConfigSchedulerTest, TypesKnowTheirOwnParameters) {
  const std::string adam = R"({"type": "AdamW"})";
  EXPECT_THAT(errors_of(with_optimizer(adam, R"({"type": "WarmupDecayLR"})")),
              HasSubstr("scheduler.params.total_num_steps: missing"));
  EXPECT_THAT(errors_of(with_optimizer(adam, R"({"type": "WarmupLR", "params": {"total_num_steps": 5}})")),
              HasSubstr("not a parameter of WarmupLR"));
  EXPECT_THAT(errors_of(with_optimizer(adam, R"({"type": "WarmupCosineLR", "params": {"warmup_max_lr": 5}})")),
              HasSubstr("not a parameter of WarmupCosineLR"));
  EXPECT_THAT(errors_of(with_optimizer(adam, R"({"type": "StepLR"})")), HasSubstr("one of WarmupLR"));
  EXPECT_THAT(errors_of(with_optimizer(adam, R"({"params": {"warmup_num_steps": 5}})")), HasSubstr("type: missing"));
  const LoadedConfig decay =
      load_ok(with_optimizer(adam, R"({"type": "WarmupDecayLR", "params": {"total_num_steps": 9}})"));
  EXPECT_EQ(decay.config.scheduler.warmup_max_lr, 0.001);
  EXPECT_TRUE(notices_have(decay, "the warm-up never ends"));
  const LoadedConfig warm =
      load_ok(with_optimizer(adam, R"({"type": "WarmupLR", "params": {"warmup_type": "cubic"}})"));
  EXPECT_FALSE(warm.config.scheduler.warmup_max_lr.has_value());
  EXPECT_EQ(warm.config.scheduler.warmup_type, WarmupShape::kLog);
  EXPECT_TRUE(notices_have(warm, "neither log nor linear"));
  EXPECT_TRUE(notices_have(warm, "older DeepSpeed: 0.001"));
}

TEST(ConfigPrecisionTest, TypesHaveToAgree) {
  EXPECT_THAT(errors_of(with_batch(R"("bf16": {"enabled": true}, "data_types": {"param_dtype": "fp32"})")),
              HasSubstr("parameters are bf16"));
  EXPECT_THAT(errors_of(with_batch(R"("data_types": {"grad_accum_dtype": "bf16"})")), HasSubstr("need bf16.enabled"));
}

TEST(ConfigNoticeTest, DeviatingDefaultsAreSaidOnce) {
  const LoadedConfig loaded = load_ok(R"({"train_batch_size": 1, "bf16": {"enabled": true}})");
  for (const char* part :
       {"gradient_clipping is not set", "data_types.grad_accum_dtype is not set", "optimizer is not set"}) {
    EXPECT_EQ(std::ranges::count_if(loaded.notices, [&](const auto& line) { return line.starts_with(part); }), 1)
        << part;
  }
  const LoadedConfig quiet =
      load_ok(with_batch(R"("bf16": {"enabled": true}, "data_types": {"grad_accum_dtype": "fp32"})"));
  EXPECT_TRUE(quiet.notices.empty()) << quiet.notices.front();
}

TEST(ConfigNoticeTest, WhatHasNoEffectIsListed) {
  const LoadedConfig loaded = load_ok(with_batch(R"("wall_clock_breakdown": true, "tensorboard": {"enabled": true},
      "zero_optimization": {"stage": 3, "contiguous_gradients": true, "overlap_comm": true},
      "aio": {"use_gds": false})"));
  EXPECT_TRUE(notices_have(loaded,
                           "accepted without effect: wall_clock_breakdown, zero_optimization.overlap_comm, "
                           "tensorboard.enabled;"));
}

std::string with_zero(std::string_view members) {
  return with_batch(std::string(R"("zero_optimization": {)") + std::string(members) + "}");
}

TEST(ConfigZeroTest, StagesPlaceWhatDeepSpeedPlaces) {
  const LoadedConfig two = load_ok(with_zero(R"("stage": 2, "offload_optimizer": {"device": "nvme", "nvme_path": "/a"},
                                               "offload_param": {"device": "cpu"})"));
  EXPECT_EQ(two.config.zero.offload_optimizer.device, OffloadDevice::kCpu);
  EXPECT_EQ(two.config.zero.offload_param.device, OffloadDevice::kNone);
  EXPECT_TRUE(notices_have(two, "treats nvme as cpu"));
  EXPECT_TRUE(notices_have(two, "offload_param.device = \"cpu\" has no effect"));
  const LoadedConfig zero = load_ok(with_zero(R"("offload_optimizer": {"device": "cpu"})"));
  EXPECT_EQ(zero.config.zero.offload_optimizer.device, OffloadDevice::kNone);
  EXPECT_TRUE(notices_have(zero, "stage 0 offloads nothing"));
  EXPECT_THAT(errors_of(with_zero(R"("stage": 2, "offload_optimizer": {"device": "cpu", "ratio": 0.5})")),
              HasSubstr("stage 2 allows only 1.0"));
  EXPECT_THAT(errors_of(with_batch(R"("zero_optimization": {"stage": 3}, "gradient_predivide_factor": 2)")),
              HasSubstr("allows only 1.0"));
}

TEST(ConfigZeroTest, PathsFollowThePrecedence) {
  const char* both = R"("stage": 3, "offload_param": {"device": "nvme", "nvme_path": "/a"},
                        "offload_optimizer": {"device": "nvme", "nvme_path": "/b"})";
  EXPECT_TRUE(notices_have(load_ok(with_zero(both)), "list both folders in strata.paths"));
  const LoadedConfig listed =
      load_ok(with_batch(std::string(R"("strata": {"paths": ["/x"]}, "zero_optimization": {)") + both + "}"));
  EXPECT_EQ(report_of(listed, "zero_optimization.offload_param.nvme_path").note, "strata.paths wins");
  const LoadedConfig none = load_ok(with_zero(R"("stage": 3, "offload_optimizer": {"device": "nvme"})"));
  EXPECT_TRUE(notices_have(none, "the run's own folder"));
  EXPECT_THAT(errors_of(with_zero(R"("stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": ""})")),
              HasSubstr("an empty path"));
  EXPECT_TRUE(notices_have(load_ok(with_zero(R"("stage": 3, "offload_param": {"pin_memory": true})")),
                           "its documentation says cpu"));
}

}  // namespace
}  // namespace strata::config
