#include <fstream>
#include <sstream>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "model/gpt2.hpp"
#include "model/llama.hpp"
#include "model/model.hpp"
#include "model/model_config.hpp"

namespace strata::model {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kLongestConfig = 1 << 20;

Result<fs::path> config_file(const fs::path& given) {
  std::error_code error;
  const auto file = fs::is_directory(given, error) ? given / "config.json" : given;
  if (!fs::is_regular_file(file, error)) {
    return fail(ErrorCode::kUsage, fmt::format("model: {} is not a file", file.string()),
                "give a Hugging Face config.json, or the folder that holds it");
  }
  const auto size = fs::file_size(file, error);
  if (error || size > kLongestConfig) {
    return fail(ErrorCode::kConfig, fmt::format("model: {} is too large for a config.json", file.string()),
                "give the model's config.json, not its weights");
  }
  return file;
}

Result<nlohmann::json> read_json(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::stringstream text;
  text << stream.rdbuf();
  if (!stream) return fail(ErrorCode::kIo, fmt::format("model: can't read {}", file.string()), "check its permissions");
  try {
    auto object = nlohmann::json::parse(text.str());
    if (!object.is_object()) {
      return fail(ErrorCode::kConfig, fmt::format("{}: not a JSON object", file.string()));
    }
    return object;
  } catch (const nlohmann::json::exception& error) {
    // The library's own tag says nothing to a person.
    std::string what = error.what();
    if (const auto tag = what.find("] "); tag != std::string::npos) what.erase(0, tag + 2);
    return fail(ErrorCode::kConfig, fmt::format("{}: {}", file.string(), what), "mend the JSON");
  }
}

}  // namespace

Result<std::unique_ptr<Model>> load_model(const fs::path& folder_or_config_json) {
  STRATA_ASSIGN(const fs::path file, config_file(folder_or_config_json));
  STRATA_ASSIGN(const nlohmann::json object, read_json(file));
  const auto type = object.find("model_type");
  if (type == object.end() || !type->is_string()) {
    return fail(ErrorCode::kConfig, fmt::format("{}: model_type: missing or not a string", file.string()),
                "set it to gpt2 or llama");
  }
  const auto name = type->get<std::string>();
  if (name == "gpt2") {
    STRATA_ASSIGN(const Gpt2Config config, parse_gpt2_config(object, file.string()));
    return make_gpt2(config);
  }
  if (name == "llama") {
    STRATA_ASSIGN(const LlamaConfig config, parse_llama_config(object, file.string()));
    return make_llama(config);
  }
  return fail(ErrorCode::kConfig, fmt::format("{}: model_type: \"{}\" is not supported", file.string(), name),
              "gpt2 and llama are");
}

std::uint64_t parameter_count(const Model& model) {
  std::uint64_t count = 0;
  for (const auto& unit : model.units()) {
    for (const auto& parameter : unit.parameters) count += parameter.elements();
  }
  return count;
}

}  // namespace strata::model
