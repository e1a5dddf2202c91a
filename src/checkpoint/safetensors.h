// Reads one safetensors file. The header is validated as a whole before anything is allocated for
// tensors: strictly the shape the format prescribes, every byte of the file owned by exactly one
// tensor. Stricter than the reference reader in these points: no tensor named twice, no unknown
// field, no leading blank, no empty name and none with NUL, '/' or "..", at most 8 dimensions
// and 262144 tensors, headers up to 64 MiB. Immutable after construction; threads may share it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "tensor/tensor.h"

namespace narrow::checkpoint {

struct SafetensorsEntry {
  std::string dtype_name;      // as in the file, "BF16"
  std::optional<DType> dtype;  // none: a type of the format that this program has no use for
  std::vector<int64_t> shape;
  int64_t begin = 0, end = 0;  // bytes, from the start of the data section
};

// Validates a header against the size of the data that follows it. Throws Error::refused.
std::map<std::string, SafetensorsEntry> parse_safetensors_header(std::string_view header,
                                                                 int64_t data_bytes,
                                                                 const std::string& where);

class SafetensorsFile {
 public:
  explicit SafetensorsFile(InputFile file);

  const std::filesystem::path& path() const { return file_.path(); }
  int64_t data_bytes() const { return file_.size_bytes() - data_offset_; }
  const std::map<std::string, SafetensorsEntry>& entries() const { return entries_; }

  // Throws Error::refused for an unknown name or a dtype without use here.
  Tensor read(const std::string& name) const;

 private:
  InputFile file_;
  int64_t data_offset_ = 0;
  std::map<std::string, SafetensorsEntry> entries_;
};

// The name that safetensors gives to a dtype, "BF16".
std::string_view safetensors_name(DType dtype);

}  // namespace narrow::checkpoint
