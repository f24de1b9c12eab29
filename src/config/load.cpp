#include "config/load.hpp"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "config/base64.hpp"
#include "config/draft.hpp"

namespace strata::config {
namespace {

constexpr std::size_t kLargestFile = 16u << 20;
constexpr std::size_t kLongestPath = 160;

/// Errors stay one line each, whatever the file holds.
std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

Error error_of(const std::vector<Issue>& issues, std::string_view source_name) {
  std::string text;
  for (const Issue& issue : issues) {
    if (!text.empty()) text += '\n';
    text += to_line(issue, source_name);
  }
  return Error{ErrorCode::kConfig, 0, std::move(text), {}};
}

bool looks_like_text(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n\xef\xbb\xbf");
  return first != std::string_view::npos &&
         (text[first] == '{' || text[first] == '#' || text.substr(first, 2) == "//" || text.substr(first, 2) == "/*");
}

}  // namespace

std::string_view name_of(Origin origin) {
  switch (origin) {
    case Origin::kFile: return "file";
    case Origin::kDefault: return "default";
    case Origin::kAutoFilled: return "auto-filled";
    case Origin::kAlias: return "alias";
    case Origin::kCommandLine: return "command line";
    case Origin::kDerived: return "derived";
  }
  return "default";
}

std::string_view name_of(Fate fate) {
  switch (fate) {
    case Fate::kObeyed: return "obeyed";
    case Fate::kUpperHint: return "upper hint";
    case Fate::kNoEffect: return "accepted without effect";
    case Fate::kRefused: return "refused";
  }
  return "refused";
}

std::string origin_text(const KeyReport& report) {
  std::string text(name_of(report.origin));
  if (report.origin == Origin::kAlias) text += fmt::format(" `{}`", report.origin_detail);
  if (report.origin == Origin::kCommandLine) text += fmt::format(" {}", report.origin_detail);
  return text;
}

std::string to_line(const Issue& issue, std::string_view source_name) {
  std::string text(source_name);
  if (issue.line != 0) text += fmt::format(":{}:{}", issue.line, issue.column);
  text += ": ";
  if (!issue.path.empty()) text += issue.path.size() > kLongestPath ? issue.path.substr(0, kLongestPath) : issue.path;
  if (!issue.path.empty() && !issue.value.empty()) text += fmt::format(" = {}", issue.value);
  if (!issue.path.empty()) text += ": ";
  text += issue.message;
  if (!issue.hint.empty()) text += fmt::format("; {}", issue.hint);
  return one_line(std::move(text));
}

CheckResult check_text(std::string_view text, const LoadOptions& options) {
  CheckResult result;
  auto document = parse_document(text);
  if (!document) {
    result.issues.push_back(std::move(document).error());
    return result;
  }
  Draft draft(*std::move(document), options);
  resolve_spellings(draft);
  apply_overrides(draft);
  drop_ignored(draft);
  find_unknown_keys(draft);
  read_cells(draft);
  refuse_unsupported(draft);
  check_batch(draft);
  check_precision(draft);
  check_optimizer(draft);
  check_zero(draft);
  check_rest(draft);
  if (draft.issues().empty()) result.loaded.config = build_config(draft);
  result.loaded.report = draft.report();
  for (std::string& line : draft.notices()) result.loaded.notices.push_back(one_line(std::move(line)));
  result.issues = std::move(draft.issues());
  std::ranges::stable_sort(result.issues, {}, &Issue::line);
  return result;
}

Result<LoadedConfig> load_text(std::string_view text, const LoadOptions& options) {
  CheckResult result = check_text(text, options);
  if (!result.issues.empty()) return tl::unexpected(error_of(result.issues, options.source_name));
  return std::move(result.loaded);
}

Result<std::string> read_config_text(const std::filesystem::path& path) {
  std::error_code failed;
  const auto status = std::filesystem::status(path, failed);
  if (!std::filesystem::exists(status)) {
    return fail(ErrorCode::kConfig, fmt::format("{}: no such file", path.string()), "check the path", failed.value());
  }
  if (std::filesystem::is_directory(status)) {
    return fail(ErrorCode::kConfig, fmt::format("{}: a folder, not a file", path.string()), "name the JSON file");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    const int code = errno;
    return fail(ErrorCode::kConfig, fmt::format("{}: can't be opened", path.string()), "check the permissions", code);
  }
  std::string text;
  char buffer[65536];
  while (file.read(buffer, sizeof buffer) || file.gcount() > 0) {
    text.append(buffer, static_cast<std::size_t>(file.gcount()));
    if (text.size() > kLargestFile) {
      return fail(ErrorCode::kConfig, fmt::format("{}: larger than 16 MiB", path.string()),
                  "this is no DeepSpeed configuration");
    }
  }
  if (file.bad()) return fail(ErrorCode::kConfig, fmt::format("{}: reading failed", path.string()), {}, errno);
  return text;
}

Result<LoadedConfig> load_file(const std::filesystem::path& path, LoadOptions options) {
  STRATA_ASSIGN(const std::string text, read_config_text(path));
  options.source_name = path.string();
  return load_text(text, options);
}

Result<LoadedConfig> load(std::string_view path_or_text, LoadOptions options) {
  if (looks_like_text(path_or_text)) return load_text(path_or_text, options);
  std::error_code failed;
  if (path_or_text.size() < 4096 && std::filesystem::exists(std::filesystem::path(path_or_text), failed)) {
    return load_file(std::filesystem::path(path_or_text), std::move(options));
  }
  if (const auto decoded = decode_base64(path_or_text); decoded && looks_like_text(*decoded)) {
    return load_text(*decoded, options);
  }
  return load_file(std::filesystem::path(path_or_text), std::move(options));  // says what is wrong with the path
}

}  // namespace strata::config
