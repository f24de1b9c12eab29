// Which files a corpus consists of, and in which order.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace strata::model {

struct TextFile {
  std::filesystem::path path;
  std::string name;  ///< relative to the path that was given, so that a moved corpus is the same corpus
  std::uint64_t size = 0;
};

/// Files that are named are taken as they are. Folders are walked recursively, in bytewise order of the names relative
/// to the folder; hidden entries, links, empty files and files that look binary are skipped. kUsage: no path, a missing
/// path, a path that is neither file nor folder; kIo: something can't be read.
[[nodiscard]] Result<std::vector<TextFile>> find_text_files(const std::vector<std::filesystem::path>& paths);

/// Whether the first bytes of a file say that it isn't text: a NUL byte, or more than a tenth control characters.
[[nodiscard]] bool looks_binary(std::span<const std::uint8_t> head);

/// Fills `out` from `offset`. kIo, with the path: the file is gone, unreadable, or ends before.
[[nodiscard]] Status read_file_at(const std::filesystem::path& path, std::uint64_t offset, std::span<std::uint8_t> out);

}  // namespace strata::model
