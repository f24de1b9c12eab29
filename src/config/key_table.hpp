// All keys, and how to find them.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/key_row.hpp"

namespace strata::config {

[[nodiscard]] std::span<const KeyRow> top_level_keys();
[[nodiscard]] std::span<const KeyRow> zero_keys();
[[nodiscard]] std::span<const KeyRow> precision_keys();
[[nodiscard]] std::span<const KeyRow> optimizer_keys();
[[nodiscard]] std::span<const KeyRow> scheduler_keys();
[[nodiscard]] std::span<const KeyRow> service_keys();
[[nodiscard]] std::span<const KeyRow> strata_keys();

/// In the order of reports: what trains first, what only observes last.
[[nodiscard]] std::vector<const KeyRow*> all_keys();

/// By canonical path. A parameter that several `type`s know has one row per meaning: `type` picks it (empty: the
/// first).
[[nodiscard]] const KeyRow* find_key(std::string_view path, std::string_view type = {});

/// Paths of the rows right below `block` ("" is the root), canonical names only.
[[nodiscard]] std::vector<std::string_view> keys_of_block(std::string_view block);

/// The parts of a '|' list; none for an empty text.
[[nodiscard]] std::vector<std::string_view> parts_of(std::string_view list);
[[nodiscard]] bool list_has(std::string_view list, std::string_view part);

[[nodiscard]] std::string_view parent_of(std::string_view path);
[[nodiscard]] std::string_view name_in(std::string_view path);

/// The known name that was probably meant, looked up in the block first, then everywhere. Empty: nothing is near.
[[nodiscard]] std::string nearest_key(std::string_view block, std::string_view name);
/// Same for a value among choices.
[[nodiscard]] std::string_view nearest_of(std::string_view word, std::span<const std::string_view> words);

}  // namespace strata::config
