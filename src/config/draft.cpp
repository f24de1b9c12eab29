#include "config/draft.hpp"

#include <utility>

#include <fmt/format.h>

#include "base/check.hpp"
#include "config/key_table.hpp"

namespace strata::config {

using nlohmann::json;

namespace {

/// The member of `root` that a path names. Names with dots in them are never found this way, which is wanted.
json* walk(json* at, std::string_view path) {
  while (!path.empty() && at != nullptr) {
    if (!at->is_object()) return nullptr;
    const std::size_t dot = path.find('.');
    const auto member = at->find(std::string(path.substr(0, dot)));
    if (member == at->end()) return nullptr;
    at = &*member;
    path.remove_prefix(dot == std::string_view::npos ? path.size() : dot + 1);
  }
  return at;
}

}  // namespace

json* Draft::find(std::string_view path) {
  return walk(&document_.root, path);
}

json* Draft::object_at(std::string_view path) {
  if (path.empty()) return &document_.root;
  json* parent = object_at(parent_of(path));
  if (parent == nullptr) return nullptr;
  json& member = (*parent)[std::string(name_in(path))];
  if (member.is_null()) member = json::object();
  return member.is_object() ? &member : nullptr;
}

void Draft::erase(std::string_view path) {
  json* parent = find(parent_of(path));
  if (parent != nullptr && parent->is_object()) parent->erase(std::string(name_in(path)));
}

void Draft::set_origin(std::string_view path, Origin origin, std::string detail) {
  origins_.insert_or_assign(std::string(path), std::pair(origin, std::move(detail)));
}

std::optional<std::pair<Origin, std::string>> Draft::origin_of(std::string_view path) const {
  const auto found = origins_.find(path);
  if (found == origins_.end()) return std::nullopt;
  return found->second;
}

void Draft::copy_positions(std::string_view from, std::string_view to) {
  std::vector<std::pair<std::string, Position>> copies;
  for (const auto& [path, position] : document_.positions) {
    const bool below = path.size() > from.size() && path.starts_with(from) && path[from.size()] == '.';
    if (path == from || below) copies.emplace_back(std::string(to) + path.substr(from.size()), position);
  }
  for (auto& [path, position] : copies) document_.positions.insert_or_assign(std::move(path), position);
}

Cell& Draft::put(std::string_view path, Cell cell) {
  return cells_.insert_or_assign(std::string(path), std::move(cell)).first->second;
}

Cell* Draft::cell(std::string_view path) {
  const auto found = cells_.find(path);
  return found == cells_.end() ? nullptr : &found->second;
}

bool Draft::is_set(std::string_view path) {
  const Cell* found = cell(path);
  return found != nullptr && !found->value.is_null();
}

bool Draft::is_given(std::string_view path) {
  const Cell* found = cell(path);
  if (found == nullptr || found->value.is_null()) return false;
  return found->origin == Origin::kFile || found->origin == Origin::kAlias || found->origin == Origin::kCommandLine;
}

bool Draft::flag(std::string_view path) {
  const Cell* found = cell(path);
  STRATA_CHECK(found != nullptr, path);
  return found->value.is_boolean() && found->value.get<bool>();
}

std::uint64_t Draft::count(std::string_view path) {
  const Cell* found = cell(path);
  STRATA_CHECK(found != nullptr && found->value.is_number_unsigned(), path);
  return found->value.get<std::uint64_t>();
}

double Draft::number(std::string_view path) {
  const Cell* found = cell(path);
  STRATA_CHECK(found != nullptr && found->value.is_number(), path);
  return found->value.get<double>();
}

std::string Draft::text(std::string_view path) {
  const Cell* found = cell(path);
  STRATA_CHECK(found != nullptr && found->value.is_string(), path);
  return found->value.get<std::string>();
}

std::vector<std::string> Draft::texts(std::string_view path) {
  const Cell* found = cell(path);
  STRATA_CHECK(found != nullptr && found->value.is_array(), path);
  return found->value.get<std::vector<std::string>>();
}

void Draft::derive(std::string_view path, json value, std::string note) {
  Cell* found = cell(path);
  STRATA_CHECK(found != nullptr, path);
  found->value = std::move(value);
  // "auto" that had to be computed was still filled in for the user.
  if (found->origin != Origin::kAutoFilled) found->origin = Origin::kDerived;
  found->origin_detail.clear();
  if (!note.empty()) found->note = std::move(note);
}

void Draft::no_effect(std::string_view path, std::string note) {
  Cell* found = cell(path);
  STRATA_CHECK(found != nullptr, path);
  found->fate = Fate::kNoEffect;
  found->note = std::move(note);
}

void Draft::error(std::string_view path, std::string message, std::string hint) {
  Issue issue{.path = std::string(path), .value = {}, .message = std::move(message), .hint = std::move(hint)};
  const auto origin = origin_of(path);
  const bool from_command_line = origin && origin->first == Origin::kCommandLine;
  // What is missing is missing in the section around it.
  for (std::string_view at = path; !at.empty() && !from_command_line; at = parent_of(at)) {
    const auto found = document_.positions.find(at);
    if (found == document_.positions.end()) continue;
    issue.line = found->second.line;
    issue.column = found->second.column;
    break;
  }
  if (const json* value = find(path)) issue.value = text_of(*value);
  if (from_command_line) issue.message += fmt::format(" (given by {})", origin->second);
  if (origin && origin->first == Origin::kAlias) issue.message += fmt::format(" (given as `{}`)", origin->second);
  issues_.push_back(std::move(issue));
}

std::string Draft::place_of(std::string_view path) const {
  const auto at = document_.positions.find(path);
  if (at == document_.positions.end()) return {};
  return fmt::format("{}:{}:{}: ", options_.source_name, at->second.line, at->second.column);
}

std::vector<KeyReport> Draft::report() {
  std::vector<KeyReport> rows;
  for (const KeyRow* row : all_keys()) {
    const Cell* found = cell(row->path);
    if (found == nullptr || found->row != row) continue;
    if (row->refuse == Refuse::kAlways && found->value.is_null()) continue;
    const bool looked_into = row->type == Type::kStrictBlock || row->type == Type::kPlainBlock;
    const bool said = found->fate == Fate::kRefused || found->ignored;
    if (!said && (looked_into || (row->type == Type::kFreeBlock && found->value.is_null()))) continue;
    rows.push_back(KeyReport{.path = std::string(row->path),
                             .value = found->value.is_null() ? "-" : text_of(found->value),
                             .origin = found->origin,
                             .origin_detail = found->origin_detail,
                             .fate = found->fate,
                             .note = found->note});
  }
  return rows;
}

}  // namespace strata::config
