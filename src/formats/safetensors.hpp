// safetensors files: a JSON header with names, types, shapes and byte ranges, then the bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "strata/types.hpp"

namespace strata::formats {

struct TensorEntry {
  std::string name;
  std::string dtype;  ///< "F32", "BF16", "F16", "I8", ...
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  ///< bytes from the start of the data
  std::uint64_t end = 0;
};

[[nodiscard]] const char* safetensors_name(DType type);

/// Writes beside `file` and renames at finish(), so that a half-written file never has the name. Tensors come in the
/// order of `entries`, each in pieces; their ranges are computed from dtype and shape.
class SafetensorsWriter {
 public:
  [[nodiscard]] static Result<SafetensorsWriter> create(const std::filesystem::path& file,
                                                        const std::vector<TensorEntry>& entries,
                                                        const std::map<std::string, std::string>& metadata);
  SafetensorsWriter(SafetensorsWriter&&) = default;
  SafetensorsWriter& operator=(SafetensorsWriter&&) = default;
  ~SafetensorsWriter();

  [[nodiscard]] Status append(std::span<const std::byte> bytes);
  /// kInternal when not exactly all bytes were appended.
  [[nodiscard]] Status finish();

 private:
  SafetensorsWriter() = default;

  std::filesystem::path file_;
  std::filesystem::path beside_;
  std::unique_ptr<std::ofstream> out_;
  std::uint64_t expected_ = 0;
  std::uint64_t written_ = 0;
};

struct SafetensorsHeader {
  std::vector<TensorEntry> entries;  ///< in file order
  std::map<std::string, std::string> metadata;
  std::uint64_t data_offset = 0;     ///< of the first byte of data in the file
};

/// Checks everything: lengths against the file, ranges against shapes, order, overlap and holes. kStore, with the
/// file's name, for anything that is not a whole safetensors file.
[[nodiscard]] Result<SafetensorsHeader> read_safetensors_header(const std::filesystem::path& file);

}  // namespace strata::formats
