// Reading Hugging Face's config.json: what is taken, and what is refused by name.
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "model/model.hpp"
#include "model/model_config.hpp"
#include "support/scratch_folder.hpp"

namespace strata::model {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json gpt2() {
  return {{"model_type", "gpt2"}, {"vocab_size", 256}, {"n_positions", 64},
          {"n_embd", 32},         {"n_layer", 2},      {"n_head", 4}};
}

json llama() {
  return {{"model_type", "llama"},   {"vocab_size", 256},      {"hidden_size", 32},
          {"intermediate_size", 88}, {"num_hidden_layers", 2}, {"num_attention_heads", 4}};
}

class LoadModelTest : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& text) {
    const auto file = folder_.path() / "config.json";
    std::ofstream(file) << text;
    return file;
  }
  Result<std::unique_ptr<Model>> load(const json& object) { return load_model(write(object.dump())); }

  void expect_refused(const json& object, const std::string& key, const std::string& part) {
    const auto model = load(object);
    ASSERT_FALSE(model.has_value()) << object;
    EXPECT_EQ(model.error().code, ErrorCode::kConfig);
    EXPECT_THAT(model.error().message, HasSubstr("config.json: " + key));
    EXPECT_THAT(model.error().message, HasSubstr(part));
  }

  test::ScratchFolder folder_;
};

TEST_F(LoadModelTest, MissingPathIsAUsageError) {
  const auto model = load_model(folder_.path() / "nothing");
  ASSERT_FALSE(model.has_value());
  EXPECT_EQ(model.error().code, ErrorCode::kUsage);
  EXPECT_THAT(model.error().message, HasSubstr("nothing"));
  EXPECT_EQ(load_model(folder_.path()).error().code, ErrorCode::kUsage) << "a folder without config.json";
}

TEST_F(LoadModelTest, BrokenJsonNamesThePlace) {
  const auto model = load_model(write("{\"model_type\": \"gpt2\",\n  \"n_embd\": }"));
  ASSERT_FALSE(model.has_value());
  EXPECT_EQ(model.error().code, ErrorCode::kConfig);
  EXPECT_THAT(model.error().message, HasSubstr("line 2"));
  EXPECT_EQ(load_model(write("[1, 2]")).error().code, ErrorCode::kConfig);
  EXPECT_EQ(load_model(write("")).error().code, ErrorCode::kConfig);
}

TEST_F(LoadModelTest, HugeFileIsNoConfig) {
  const auto model = load_model(write(std::string(2 << 20, ' ')));
  ASSERT_FALSE(model.has_value());
  EXPECT_THAT(model.error().message, HasSubstr("too large"));
}

TEST_F(LoadModelTest, OtherModelsAreRefusedByName) {
  auto object = gpt2();
  object["model_type"] = "mamba";
  expect_refused(object, "model_type", "mamba");
  object.erase("model_type");
  expect_refused(object, "model_type", "missing");
}

TEST_F(LoadModelTest, EachMissingKeyIsNamed) {
  for (const char* key : {"vocab_size", "n_positions", "n_embd", "n_layer", "n_head"}) {
    auto object = gpt2();
    object.erase(key);
    expect_refused(object, key, "missing");
  }
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}) {
    auto object = llama();
    object.erase(key);
    expect_refused(object, key, "missing");
  }
}

TEST_F(LoadModelTest, WrongTypesAndAbsurdSizesAreRefused) {
  const auto with = [](json object, const char* key, const json& value) {
    object[key] = value;
    return object;
  };
  expect_refused(with(gpt2(), "n_embd", "32"), "n_embd", "not an integer");
  expect_refused(with(gpt2(), "n_embd", 32.5), "n_embd", "not an integer");
  expect_refused(with(gpt2(), "n_layer", 0), "n_layer", "not between");
  expect_refused(with(gpt2(), "n_layer", -3), "n_layer", "not between");
  expect_refused(with(gpt2(), "vocab_size", 18446744073709551615ULL), "vocab_size", "not between");
  expect_refused(with(gpt2(), "n_embd", std::int64_t{1} << 40), "n_embd", "not between");
  expect_refused(with(gpt2(), "tie_word_embeddings", 1), "tie_word_embeddings", "true or false");
  expect_refused(with(gpt2(), "resid_pdrop", 1.0), "resid_pdrop", "not between");
  expect_refused(with(gpt2(), "resid_pdrop", "0.1"), "resid_pdrop", "not a number");
  expect_refused(with(gpt2(), "activation_function", 3), "activation_function", "not a string");
  expect_refused(with(llama(), "rms_norm_eps", 0.0), "rms_norm_eps", "not between");
  expect_refused(with(llama(), "rope_theta", -1), "rope_theta", "not between");
}

TEST_F(LoadModelTest, SizesThatDontFitTogetherAreRefused) {
  auto object = gpt2();
  object["n_head"] = 5;
  expect_refused(object, "n_head", "does not divide n_embd = 32");
  object = llama();
  object["num_attention_heads"] = 5;
  expect_refused(object, "num_attention_heads", "does not divide hidden_size = 32");
  object = llama();
  object["num_key_value_heads"] = 3;
  expect_refused(object, "num_key_value_heads", "does not divide num_attention_heads = 4");
  object = llama();
  object["head_dim"] = 7;
  expect_refused(object, "head_dim", "odd");
}

TEST_F(LoadModelTest, WhatWouldChangeTheNumbersIsRefused) {
  const auto with = [](json object, const char* key, const json& value) {
    object[key] = value;
    return object;
  };
  expect_refused(with(gpt2(), "activation_function", "relu"), "activation_function", "relu");
  expect_refused(with(gpt2(), "add_cross_attention", true), "add_cross_attention", "true");
  expect_refused(with(gpt2(), "reorder_and_upcast_attn", true), "reorder_and_upcast_attn", "true");
  expect_refused(with(gpt2(), "quantization_config", json::object()), "quantization_config", "quantized");
  expect_refused(with(llama(), "hidden_act", "gelu"), "hidden_act", "gelu");
  expect_refused(with(llama(), "rope_scaling", {{"type", "linear"}, {"factor", 2.0}}), "rope_scaling", "linear");
  expect_refused(with(llama(), "rope_parameters", {{"rope_type", "llama3"}}), "rope_parameters", "llama3");
  expect_refused(with(llama(), "rope_scaling", "yarn"), "rope_scaling", "not an object");
}

TEST_F(LoadModelTest, DefaultsAreThoseOfTransformers) {
  const auto g = parse_gpt2_config(gpt2(), "x");
  ASSERT_TRUE(g.has_value());
  EXPECT_EQ(g->inner, 128);
  EXPECT_EQ(g->residual_dropout, 0.1);
  EXPECT_EQ(g->attention_dropout, 0.1);
  EXPECT_EQ(g->embedding_dropout, 0.1);
  EXPECT_EQ(g->layer_norm_epsilon, 1e-5);
  EXPECT_TRUE(g->tied);
  const auto l = parse_llama_config(llama(), "x");
  ASSERT_TRUE(l.has_value());
  EXPECT_EQ(l->key_value_heads, 4);
  EXPECT_EQ(l->head_size, 8);
  EXPECT_EQ(l->positions, 2048);
  EXPECT_EQ(l->norm_epsilon, 1e-6);
  EXPECT_EQ(l->rope_theta, 10000.0);
  EXPECT_FALSE(l->tied);
}

TEST_F(LoadModelTest, RopeParametersOfTransformers5AreRead) {
  auto object = llama();
  object["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 500000.0}};
  const auto l = parse_llama_config(object, "x");
  ASSERT_TRUE(l.has_value());
  EXPECT_EQ(l->rope_theta, 500000.0);
}

TEST_F(LoadModelTest, NamesAndShapesAreThoseOfTransformers) {
  const auto g = load(gpt2());
  ASSERT_TRUE(g.has_value());
  EXPECT_EQ((*g)->units()[0].parameters[1].name, "transformer.wpe.weight");
  const auto& block = (*g)->units()[2].parameters;
  ASSERT_EQ(block.size(), 12U);
  EXPECT_EQ(block[2].name, "transformer.h.1.attn.c_attn.weight");
  EXPECT_EQ(block[2].shape, (std::vector<std::int64_t>{32, 96}));
  EXPECT_DOUBLE_EQ(block[2].init.std, 0.02);
  EXPECT_DOUBLE_EQ(block[4].init.std, 0.02 / 2.0) << "residual projection, two layers";
  EXPECT_EQ(block[0].init.kind, InitRule::Kind::kOnes);
  EXPECT_EQ(block[1].init.kind, InitRule::Kind::kZeros);
  auto object = llama();
  object["num_key_value_heads"] = 2;
  const auto l = load(object);
  ASSERT_TRUE(l.has_value());
  const auto& layer = (*l)->units()[1].parameters;
  ASSERT_EQ(layer.size(), 9U);
  EXPECT_EQ(layer[1].name, "model.layers.0.self_attn.k_proj.weight");
  EXPECT_EQ(layer[1].shape, (std::vector<std::int64_t>{16, 32}));
  EXPECT_EQ(layer[8].name, "model.layers.0.post_attention_layernorm.weight");
}

TEST(ModelConfigsTest, ReadyConfigsHaveTheirSizes) {
  const std::filesystem::path folder = STRATA_SOURCE_DIR "/configs/models";
  const auto count = [&](const char* name) {
    const auto model = load_model(folder / name);
    EXPECT_TRUE(model.has_value()) << (model ? "" : to_string(model.error()));
    return model ? parameter_count(**model) : 0;
  };
  EXPECT_EQ(count("gpt2-demo.json"), 31'918'080U);
  EXPECT_EQ(count("llama-202m.json"), 202'007'552U);
  EXPECT_GT(count("gpt2-tiny.json"), 100'000U);
  EXPECT_GT(count("llama-tiny.json"), 100'000U);
}

}  // namespace
}  // namespace strata::model
