#include "formats/safetensors.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace strata::formats {
namespace {

using nlohmann::json;
using Ordered = nlohmann::ordered_json;

// The reference implementation refuses longer headers too.
constexpr std::uint64_t kHeaderMax = 100'000'000;

struct Width {
  const char* name;
  std::uint64_t bytes;
};
constexpr std::array kWidths = {Width{"F64", 8}, Width{"F32", 4}, Width{"F16", 2}, Width{"BF16", 2}, Width{"I64", 8},
                                Width{"I32", 4}, Width{"I16", 2}, Width{"I8", 1},  Width{"U8", 1},   Width{"BOOL", 1}};

std::optional<std::uint64_t> byte_size(const std::string& dtype, const std::vector<std::int64_t>& shape) {
  const auto width = std::find_if(kWidths.begin(), kWidths.end(), [&](const Width& w) { return dtype == w.name; });
  if (width == kWidths.end()) return std::nullopt;
  std::uint64_t size = width->bytes;
  for (const std::int64_t extent : shape) {
    if (extent < 0) return std::nullopt;
    if (extent != 0 && size > (1ull << 62) / static_cast<std::uint64_t>(extent)) return std::nullopt;
    size *= static_cast<std::uint64_t>(extent);
  }
  return size;
}

tl::unexpected<Error> damaged(const std::filesystem::path& file, const std::string& why) {
  return fail(ErrorCode::kStore, fmt::format("'{}' is not a whole safetensors file: {}", file.string(), why),
              "copy or export it again");
}

Result<SafetensorsHeader> parse(const std::filesystem::path& file, const std::string& text, std::uint64_t data_bytes) {
  SafetensorsHeader header;
  const json document = json::parse(text);
  if (!document.is_object()) return damaged(file, "the header is no JSON object");
  for (const auto& [name, value] : document.items()) {
    if (name == "__metadata__") {
      for (const auto& [key, item] : value.items()) header.metadata[key] = item.get<std::string>();
      continue;
    }
    TensorEntry entry;
    entry.name = name;
    entry.dtype = value.at("dtype").get<std::string>();
    entry.shape = value.at("shape").get<std::vector<std::int64_t>>();
    entry.begin = value.at("data_offsets").at(0).get<std::uint64_t>();
    entry.end = value.at("data_offsets").at(1).get<std::uint64_t>();
    const auto size = byte_size(entry.dtype, entry.shape);
    if (!size || entry.end < entry.begin || entry.end - entry.begin != *size) {
      return damaged(file, fmt::format("the range of '{}' does not suit its type and shape", name));
    }
    header.entries.push_back(std::move(entry));
  }
  std::sort(header.entries.begin(), header.entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::uint64_t at = 0;
  for (const TensorEntry& entry : header.entries) {
    if (entry.begin != at) return damaged(file, fmt::format("a hole or an overlap before '{}'", entry.name));
    at = entry.end;
  }
  if (at != data_bytes) return damaged(file, fmt::format("{} bytes of data, the header names {}", data_bytes, at));
  return header;
}

}  // namespace

const char* safetensors_name(DType type) {
  switch (type) {
    case DType::kFloat32: return "F32";
    case DType::kBFloat16: return "BF16";
    case DType::kFloat16: return "F16";
  }
  return "F32";
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::filesystem::path& file,
                                                    const std::vector<TensorEntry>& entries,
                                                    const std::map<std::string, std::string>& metadata) {
  SafetensorsWriter writer;
  writer.file_ = file;
  writer.beside_ = file.string() + ".new";
  Ordered header = Ordered::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  for (const TensorEntry& entry : entries) {
    const auto size = byte_size(entry.dtype, entry.shape);
    if (!size) return fail(ErrorCode::kInternal, fmt::format("tensor '{}' has no known size", entry.name));
    header[entry.name] = {{"dtype", entry.dtype},
                          {"shape", entry.shape},
                          {"data_offsets", {writer.expected_, writer.expected_ + *size}}};
    writer.expected_ += *size;
  }
  std::string text = header.dump();
  text.append(round_up(text.size(), 8) - text.size(), ' ');
  writer.out_ = std::make_unique<std::ofstream>(writer.beside_, std::ios::binary | std::ios::trunc);
  const std::uint64_t length = text.size();
  writer.out_->write(reinterpret_cast<const char*>(&length), sizeof length);
  *writer.out_ << text;
  if (!*writer.out_) {
    return fail(ErrorCode::kIo, fmt::format("cannot write '{}'", writer.beside_.string()),
                "give a writable folder with enough room", errno);
  }
  return writer;
}

SafetensorsWriter::~SafetensorsWriter() {
  if (!out_) return;
  out_.reset();
  std::error_code ignored;
  std::filesystem::remove(beside_, ignored);
}

Status SafetensorsWriter::append(std::span<const std::byte> bytes) {
  out_->write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  written_ += bytes.size();
  if (!*out_) {
    return fail(ErrorCode::kIo, fmt::format("cannot write '{}' after {} bytes", beside_.string(), written_),
                "free some space", errno);
  }
  return {};
}

Status SafetensorsWriter::finish() {
  if (written_ != expected_) {
    return fail(ErrorCode::kInternal, fmt::format("'{}' got {} of {} bytes", file_.string(), written_, expected_));
  }
  out_->flush();
  const bool good = static_cast<bool>(*out_);
  out_->close();
  if (!good) {
    return fail(ErrorCode::kIo, fmt::format("cannot finish '{}'", beside_.string()), "free some space", errno);
  }
  std::error_code failed;
  std::filesystem::rename(beside_, file_, failed);
  if (failed) return fail(ErrorCode::kIo, fmt::format("cannot rename to '{}'", file_.string()), {}, failed.value());
  out_.reset();
  return {};
}

Result<SafetensorsHeader> read_safetensors_header(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::error_code failed;
  const std::uint64_t size = std::filesystem::file_size(file, failed);
  if (!in || failed) {
    return fail(ErrorCode::kIo, fmt::format("cannot read '{}'", file.string()), "check the path", failed.value());
  }
  std::uint64_t length = 0;
  if (size < sizeof length || !in.read(reinterpret_cast<char*>(&length), sizeof length)) {
    return damaged(file, "it is shorter than a header");
  }
  if (length > kHeaderMax || length > size - sizeof length) {
    return damaged(file, fmt::format("its header claims {} bytes", length));
  }
  std::string text(length, '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(length))) return damaged(file, "the header is cut off");
  try {
    STRATA_ASSIGN(SafetensorsHeader header, parse(file, text, size - sizeof length - length));
    header.data_offset = sizeof length + length;
    return header;
  } catch (const json::exception& error) {
    return damaged(file, error.what());
  }
}

}  // namespace strata::formats
