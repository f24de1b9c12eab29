// Random texts must end in a configuration or in errors, never in a crash, and never in a value out of its range.
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "config/key_table.hpp"
#include "config/report_text.hpp"
#include "support/config_text.hpp"

namespace strata::config {
namespace {

using nlohmann::json;
using Random = std::mt19937_64;

std::uint64_t seed_of_run() {
  const char* given = std::getenv("STRATA_TEST_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::cout << "STRATA_TEST_SEED=" << seed << std::endl;
  return seed;
}

std::size_t below(Random& random, std::size_t count) {
  return std::uniform_int_distribution<std::size_t>(0, count - 1)(random);
}

void expect_sane(std::string_view text) {
  LoadOptions options;
  options.hidden_size = 1024;
  const CheckResult result = check_text(text, options);
  const json document = json::parse(check_document(result, options), nullptr, false);
  EXPECT_FALSE(document.is_discarded()) << text;
  for (const Issue& issue : result.issues) EXPECT_EQ(to_line(issue, "x").find('\n'), std::string::npos);
  if (!result.issues.empty()) return;
  const Config& config = result.loaded.config;
  EXPECT_EQ(config.train_batch_size, config.micro_batch * config.accumulation) << text;
  EXPECT_GE(config.micro_batch, 1u) << text;
  EXPECT_GE(config.gradient_clipping, 0) << text;
  EXPECT_LE(config.zero.stage, 3u) << text;
  EXPECT_GE(config.zero.sub_group_size, 1u) << text;
  EXPECT_GE(config.aio.block_size, kBlockAlignment) << text;
  EXPECT_GE(config.aio.queue_depth, 1u) << text;
}

json random_value(Random& random) {
  static const std::vector<json> values = {nullptr,
                                           true,
                                           false,
                                           0,
                                           1,
                                           -1,
                                           3,
                                           0.5,
                                           5e8,
                                           1e300,
                                           18446744073709551615ull,
                                           "auto",
                                           "true",
                                           "cpu",
                                           "nvme",
                                           "none",
                                           "8GiB",
                                           "",
                                           "AdamW",
                                           "Lamb",
                                           "WarmupDecayLR",
                                           "WarmupCosineLR",
                                           "OneCycle",
                                           "bf16",
                                           json::array(),
                                           json::object(),
                                           json::array({0.9, 0.95}),
                                           json::array({"fp16", "amp", "zenflow"}),
                                           json::object({{"enabled", true}})};
  return values[below(random, values.size())];
}

/// A file of random known keys with random values.
std::string random_file(Random& random) {
  static const std::vector<const KeyRow*> rows = all_keys();
  json file = below(random, 2) == 0 ? json::parse(with_batch("")) : json::object();
  for (std::size_t i = below(random, 12); i > 0; --i) {
    std::string_view path = rows[below(random, rows.size())]->path;
    json* at = &file;
    while (!path.empty()) {
      if (!at->is_object()) *at = json::object();
      const std::size_t dot = path.find('.');
      at = &(*at)[std::string(path.substr(0, dot))];
      path.remove_prefix(dot == std::string_view::npos ? path.size() : dot + 1);
    }
    *at = random_value(random);
  }
  return file.dump();
}

void mutate(std::string& text, Random& random) {
  static constexpr std::string_view kPieces[] = {"{",    "}",     "[",  "]",        ",",    ":",    "\"",
                                                 "\\",   "//",    "/*", "*/",       "#",    "\n",   "null",
                                                 "true", "1e999", "-",  "Infinity", "auto", "\xff", "\\u0000"};
  const std::size_t at = text.empty() ? 0 : below(random, text.size());
  switch (below(random, 4)) {
    case 0: text.insert(at, kPieces[below(random, std::size(kPieces))]); break;
    case 1: text.erase(at, 1 + below(random, 8)); break;
    case 2:
      if (!text.empty()) text[at] = static_cast<char>(below(random, 256));
      break;
    default: text.insert(at, text.substr(below(random, text.size() + 1), below(random, 40))); break;
  }
}

TEST(ConfigMutationTest, RandomValuesOfKnownKeysNeverCrash) {
  Random random(seed_of_run());
  for (int i = 0; i < 700; ++i) expect_sane(random_file(random));
}

TEST(ConfigMutationTest, RandomBytesNeverCrash) {
  Random random(seed_of_run());
  for (int i = 0; i < 700; ++i) {
    std::string text = random_file(random);
    for (std::size_t n = 1 + below(random, 6); n > 0; --n) mutate(text, random);
    expect_sane(text);
  }
}

}  // namespace
}  // namespace strata::config
