// A file on its way to a Config: the document, what was read of it, and everything that has to be said about it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "config/document.hpp"
#include "config/key_row.hpp"
#include "config/load.hpp"

namespace strata::config {

/// What is known of one key.
struct Cell {
  const KeyRow* row = nullptr;
  nlohmann::json value;  ///< typed as the row says, or null: not set
  Origin origin = Origin::kDefault;
  std::string origin_detail;
  Fate fate = Fate::kObeyed;
  std::string note;
  bool ignored = false;  ///< named in strata.ignore_sections; the value is the file's, untyped
};

class Draft {
 public:
  Draft(Document document, const LoadOptions& options) : document_(std::move(document)), options_(options) {}

  [[nodiscard]] const LoadOptions& options() const { return options_; }
  [[nodiscard]] nlohmann::json& root() { return document_.root; }

  /// The member as the file has it; nullptr when missing.
  [[nodiscard]] nlohmann::json* find(std::string_view path);
  /// The object at `path`, made when missing; nullptr when something else stands there.
  [[nodiscard]] nlohmann::json* object_at(std::string_view path);
  void erase(std::string_view path);

  /// Says that `path` got its value from elsewhere than its own name in the file.
  void set_origin(std::string_view path, Origin origin, std::string detail);
  [[nodiscard]] std::optional<std::pair<Origin, std::string>> origin_of(std::string_view path) const;
  /// Copies the positions of `from` and all below it, so that errors point to what was written.
  void copy_positions(std::string_view from, std::string_view to);

  // Cells. Asking for a value of another type than the row's is a programmer error.
  Cell& put(std::string_view path, Cell cell);
  [[nodiscard]] Cell* cell(std::string_view path);
  [[nodiscard]] bool is_set(std::string_view path);
  /// The user gave it: file, alias or command line ("auto" excepted).
  [[nodiscard]] bool is_given(std::string_view path);
  [[nodiscard]] bool flag(std::string_view path);
  [[nodiscard]] std::uint64_t count(std::string_view path);
  [[nodiscard]] double number(std::string_view path);
  [[nodiscard]] std::string text(std::string_view path);
  [[nodiscard]] std::vector<std::string> texts(std::string_view path);
  void derive(std::string_view path, nlohmann::json value, std::string note);
  void no_effect(std::string_view path, std::string note);

  void error(std::string_view path, std::string message, std::string hint);
  void notice(std::string line) { notices_.push_back(std::move(line)); }
  /// "ds.json:3:12: " or nothing.
  [[nodiscard]] std::string place_of(std::string_view path) const;

  [[nodiscard]] std::vector<Issue>& issues() { return issues_; }
  [[nodiscard]] std::vector<std::string>& notices() { return notices_; }
  [[nodiscard]] std::vector<KeyReport> report();

 private:
  Document document_;
  const LoadOptions& options_;
  std::map<std::string, std::pair<Origin, std::string>, std::less<>> origins_;
  std::map<std::string, Cell, std::less<>> cells_;
  std::vector<Issue> issues_;
  std::vector<std::string> notices_;
};

/// The passes, in the order in which load.cpp runs them.
void resolve_spellings(Draft& draft);  ///< aliases, deprecated keys, old forms
void apply_overrides(Draft& draft);    ///< the command line
void drop_ignored(Draft& draft);       ///< strata.ignore_sections
void find_unknown_keys(Draft& draft);
void read_cells(Draft& draft);  ///< types, limits, "auto", defaults
void refuse_unsupported(Draft& draft);
void check_batch(Draft& draft);
void check_precision(Draft& draft);
void check_optimizer(Draft& draft);
void check_zero(Draft& draft);
void check_rest(Draft& draft);
[[nodiscard]] Config build_config(Draft& draft);  ///< only without issues

/// The `type` beside a `params` block that `path` lies in: "adamw", "WarmupLR"; empty when it is none.
[[nodiscard]] std::string type_beside(Draft& draft, std::string_view path);
[[nodiscard]] bool is_refused(const KeyRow& row, const nlohmann::json& value);

}  // namespace strata::config
