#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/config_text.hpp"

namespace strata::config {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Trio {
  std::uint64_t train;
  std::uint64_t micro;
  std::uint64_t accumulation;
  bool operator==(const Trio&) const = default;
};

void PrintTo(const Trio& t, std::ostream* out) {
  *out << t.train << " = " << t.micro << " x " << t.accumulation;
}

Trio trio_of(std::string_view text, const LoadOptions& options = {}) {
  const Config config = load_ok(text, options).config;
  return {config.train_batch_size, config.micro_batch, config.accumulation};
}

constexpr std::string_view kAllThree =
    R"({"train_batch_size": 32, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 8})";

TEST(ConfigBatchTest, NothingGivenIsAnErrorUnlessThereIsAFallback) {
  EXPECT_THAT(errors_of("{}"), AllOf(HasSubstr("train_batch_size"), HasSubstr("--micro-batch")));
  EXPECT_THAT(errors_of(R"({"gradient_accumulation_steps": 4})"), HasSubstr("missing"));
  EXPECT_EQ(trio_of("{}", {.fallback_micro_batch = 3}), (Trio{3, 3, 1}));
}

TEST(ConfigBatchTest, ProductMustAgree) {
  EXPECT_THAT(errors_of(kAllThree, {.world_size = 2}), HasSubstr("x 2 ranks = 64"));
  const std::string errors =
      errors_of(R"({"train_batch_size": 32, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 4})");
  EXPECT_THAT(errors, AllOf(HasSubstr("= 8"), HasSubstr("made for 4 ranks")));
  // Integer floor division first, as in DeepSpeed, then the final check.
  EXPECT_THAT(errors_of(R"({"train_batch_size": 7, "gradient_accumulation_steps": 2})"), HasSubstr("= 6"));
  EXPECT_THAT(errors_of(R"({"train_batch_size": 2, "train_micro_batch_size_per_gpu": 4})"), HasSubstr("at least 4"));
}

TEST(ConfigBatchTest, HugeFactorsDoNotWrapAround) {
  EXPECT_THAT(errors_of(R"({"train_batch_size": 4, "train_micro_batch_size_per_gpu": 2147483647,
                            "gradient_accumulation_steps": 2147483647})",
                        {.world_size = 4}),
              HasSubstr("train_batch_size = 4"));
  EXPECT_THAT(errors_of(R"({"train_micro_batch_size_per_gpu": 9e18})"), HasSubstr("not allowed"));
}

TEST(ConfigBatchTest, MissingOnesAreDerived) {
  EXPECT_EQ(trio_of(kAllThree), (Trio{32, 4, 8}));
  EXPECT_EQ(trio_of(R"({"train_batch_size": 32})"), (Trio{32, 32, 1}));
  EXPECT_EQ(trio_of(R"({"train_batch_size": 32})", {.world_size = 4}), (Trio{32, 8, 1}));
  EXPECT_EQ(trio_of(R"({"train_micro_batch_size_per_gpu": 4})", {.world_size = 2}), (Trio{8, 4, 1}));
  EXPECT_EQ(trio_of(R"({"train_batch_size": 32, "train_micro_batch_size_per_gpu": 4})"), (Trio{32, 4, 8}));
  EXPECT_EQ(trio_of(R"({"train_batch_size": 32, "gradient_accumulation_steps": 8})", {.world_size = 2}),
            (Trio{32, 2, 8}));
  EXPECT_EQ(trio_of(R"({"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 8})"), (Trio{32, 4, 8}));
  const LoadedConfig loaded = load_ok(R"({"train_batch_size": 32})");
  EXPECT_EQ(report_of(loaded, "train_batch_size").origin, Origin::kFile);
  EXPECT_EQ(report_of(loaded, "train_micro_batch_size_per_gpu").origin, Origin::kDerived);
}

TEST(ConfigBatchTest, AutoIsFilledAsHuggingFaceDoes) {
  const std::string all_auto = R"({"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto",
                                   "gradient_accumulation_steps": "auto"})";
  EXPECT_EQ(trio_of(all_auto, {.world_size = 2}), (Trio{16, 8, 1}));
  EXPECT_EQ(trio_of(all_auto, {.micro_batch = 2, .accumulation = 3}), (Trio{6, 2, 3}));
  EXPECT_EQ(report_of(load_ok(all_auto), "train_batch_size").origin, Origin::kAutoFilled);
  EXPECT_EQ(trio_of(R"({"train_batch_size": 32, "train_micro_batch_size_per_gpu": "auto",
                        "gradient_accumulation_steps": "auto"})"),
            (Trio{32, 32, 1}));
}

TEST(ConfigBatchTest, FlagsChangeFactorsAndKeepTheFilesProduct) {
  EXPECT_EQ(trio_of(kAllThree, {.micro_batch = 2}), (Trio{32, 2, 16}));
  EXPECT_EQ(trio_of(kAllThree, {.accumulation = 2}), (Trio{32, 16, 2}));
  EXPECT_EQ(trio_of(kAllThree, {.micro_batch = 2, .accumulation = 2}), (Trio{4, 2, 2}));
  EXPECT_TRUE(notices_have(load_ok(kAllThree, {.micro_batch = 2}), "8 in the file becomes 16"));
  EXPECT_THAT(errors_of(kAllThree, {.micro_batch = 5}), HasSubstr("train_batch_size"));
  EXPECT_EQ(trio_of(R"({"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 8})", {.micro_batch = 1}),
            (Trio{8, 1, 8}));
}

}  // namespace
}  // namespace strata::config
