// What the flags of `strata train` mean: with the run's record, the config file and what is free, the trainer's
// options.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "engine/trainer.hpp"

namespace strata::cli {

struct TrainFlags {
  std::map<std::string, std::string> given;  ///< by setting key
  std::filesystem::path out;
  bool resume = false;
  bool allow_change = false;
};

/// Says on stderr what was chosen and where it comes from, and lists changed settings.
[[nodiscard]] Result<engine::TrainOptions> train_options(TrainFlags flags);

/// kUsage when it can't be read.
[[nodiscard]] Result<std::string> read_text(const std::filesystem::path& file);

}  // namespace strata::cli
