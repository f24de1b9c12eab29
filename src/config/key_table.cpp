#include "config/key_table.hpp"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <numeric>

namespace strata::config {
namespace {

char lower(char c) {
  return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
}

/// Insertions, deletions and replacements, without regard to case; swaps of neighbours count one.
std::size_t distance_between(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before_last;
  std::vector<std::size_t> last(b.size() + 1);
  std::iota(last.begin(), last.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::vector<std::size_t> row(b.size() + 1, i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const bool same = lower(a[i - 1]) == lower(b[j - 1]);
      row[j] = std::min({row[j - 1] + 1, last[j] + 1, last[j - 1] + (same ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]);
      if (swapped) row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
    before_last = std::move(last);
    last = std::move(row);
  }
  return last[b.size()];
}

constexpr std::size_t kLongestName = 64;  // no key is longer, and the distance costs the product of the lengths

}  // namespace

std::vector<const KeyRow*> all_keys() {
  std::vector<const KeyRow*> rows;
  for (const auto table : {top_level_keys(), precision_keys(), optimizer_keys(), scheduler_keys(), zero_keys(),
                           strata_keys(), service_keys()}) {
    for (const KeyRow& row : table) rows.push_back(&row);
  }
  return rows;
}

const KeyRow* find_key(std::string_view path, std::string_view type) {
  const KeyRow* first = nullptr;
  for (const auto table : {top_level_keys(), precision_keys(), optimizer_keys(), scheduler_keys(), zero_keys(),
                           strata_keys(), service_keys()}) {
    for (const KeyRow& row : table) {
      if (row.path != path) continue;
      if (row.only_for.empty() || list_has(row.only_for, type)) return &row;
      if (first == nullptr) first = &row;
    }
  }
  return type.empty() ? first : nullptr;
}

std::vector<std::string_view> keys_of_block(std::string_view block) {
  std::vector<std::string_view> paths;
  for (const KeyRow* row : all_keys()) {
    if (parent_of(row->path) == block && (paths.empty() || paths.back() != row->path)) paths.push_back(row->path);
  }
  return paths;
}

std::vector<std::string_view> parts_of(std::string_view list) {
  std::vector<std::string_view> parts;
  while (!list.empty()) {
    const std::size_t bar = list.find('|');
    parts.push_back(list.substr(0, bar));
    list.remove_prefix(bar == std::string_view::npos ? list.size() : bar + 1);
  }
  return parts;
}

bool list_has(std::string_view list, std::string_view part) {
  return std::ranges::count(parts_of(list), part) > 0;
}

std::string_view parent_of(std::string_view path) {
  const std::size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? std::string_view{} : path.substr(0, dot);
}

std::string_view name_in(std::string_view path) {
  const std::size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? path : path.substr(dot + 1);
}

std::string_view nearest_of(std::string_view word, std::span<const std::string_view> words) {
  if (word.size() > kLongestName) return {};
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string_view candidate : words) {
    const std::size_t distance = distance_between(word, candidate);
    if (distance < best_distance && distance < std::max(word.size(), candidate.size())) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string nearest_key(std::string_view block, std::string_view name) {
  std::vector<std::string_view> names;
  std::vector<std::string_view> elsewhere;
  for (const KeyRow* row : all_keys()) {
    auto& to = parent_of(row->path) == block ? names : elsewhere;
    to.push_back(&to == &names ? name_in(row->path) : row->path);
    if (&to == &names) {
      for (const std::string_view alias : parts_of(row->aliases)) to.push_back(alias);
    }
  }
  if (const std::string_view near = nearest_of(name, names); !near.empty()) return std::string(near);
  for (const std::string_view path : elsewhere) {
    if (name_in(path) == name || path == name) return std::string(path);
  }
  return {};
}

}  // namespace strata::config
