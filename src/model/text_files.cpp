#include "model/text_files.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.hpp"

namespace strata::model {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kHeadBytes = 8192;

tl::unexpected<Error> io_error(const char* what, const fs::path& path, int number) {
  return fail(ErrorCode::kIo, fmt::format("data: can't {} {}: {}", what, path.string(), std::strerror(number)),
              number == EACCES ? "make it readable, or leave it out of the data paths" : "", number);
}

/// The number of bytes before the end of the file, at most out.size().
Result<std::size_t> read_some(const fs::path& path, std::uint64_t offset, std::span<std::uint8_t> out) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return io_error("open", path, errno);
  std::size_t done = 0;
  while (done < out.size()) {
    const auto got = ::pread(fd.get(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error("read", path, errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

/// Adds an entry of a folder if it is a text file.
Status add_entry(const fs::directory_entry& entry, const fs::path& root, std::vector<TextFile>& found) {
  std::error_code error;
  const auto size = entry.file_size(error);
  if (error) return io_error("stat", entry.path(), error.value());
  if (size == 0) return {};
  std::array<std::uint8_t, kHeadBytes> head;
  STRATA_ASSIGN(const std::size_t length, read_some(entry.path(), 0, head));
  if (looks_binary(std::span(head).first(length))) return {};
  found.push_back({entry.path(), entry.path().lexically_relative(root).generic_string(), size});
  return {};
}

Status add_folder(const fs::path& root, std::vector<TextFile>& found) {
  std::error_code error;
  std::vector<TextFile> inside;
  fs::recursive_directory_iterator walk(root, error);
  for (; !error && walk != fs::recursive_directory_iterator(); walk.increment(error)) {
    const auto& entry = *walk;
    const auto type = entry.symlink_status(error).type();
    if (error) return io_error("stat", entry.path(), error.value());
    if (entry.path().filename().string().starts_with('.')) {
      if (type == fs::file_type::directory) walk.disable_recursion_pending();
      continue;
    }
    if (type == fs::file_type::regular) STRATA_TRY(add_entry(entry, root, inside));
  }
  if (error) return io_error("walk", root, error.value());
  std::ranges::sort(inside, {}, &TextFile::name);
  std::ranges::move(inside, std::back_inserter(found));
  return {};
}

Status add_path(const fs::path& path, std::vector<TextFile>& found) {
  std::error_code error;
  const auto type = fs::status(path, error).type();
  if (type == fs::file_type::not_found) {
    return fail(ErrorCode::kUsage, fmt::format("data: {} does not exist", path.string()), "check --data", ENOENT);
  }
  if (error) return io_error("stat", path, error.value());
  if (type == fs::file_type::directory) return add_folder(path, found);
  if (type != fs::file_type::regular) {
    return fail(ErrorCode::kUsage, fmt::format("data: {} is neither a file nor a folder", path.string()),
                "give a text file or a folder of text files");
  }
  const auto size = fs::file_size(path, error);
  if (error) return io_error("stat", path, error.value());
  if (size > 0) found.push_back({path, path.filename().string(), size});
  return {};
}

}  // namespace

bool looks_binary(std::span<const std::uint8_t> head) {
  std::size_t control = 0;
  for (const auto byte : head) {
    if (byte == 0) return true;
    // Text has tab, line feed, form feed, carriage return, backspace and escape.
    const bool usual = (byte >= 8 && byte <= 13) || byte == 27;
    if (byte < 32 && !usual) ++control;
  }
  return control * 10 > head.size();
}

Result<std::vector<TextFile>> find_text_files(const std::vector<fs::path>& paths) {
  if (paths.empty()) return fail(ErrorCode::kUsage, "data: no path was given", "give --data a text file or a folder");
  std::vector<TextFile> found;
  for (const auto& path : paths) STRATA_TRY(add_path(path, found));
  return found;
}

Status read_file_at(const fs::path& path, std::uint64_t offset, std::span<std::uint8_t> out) {
  STRATA_ASSIGN(const std::size_t length, read_some(path, offset, out));
  if (length < out.size()) {
    return fail(ErrorCode::kIo, fmt::format("data: {} ends at byte {}, it was longer", path.string(), offset + length),
                "leave the data unchanged while a run uses it");
  }
  return {};
}

}  // namespace strata::model
