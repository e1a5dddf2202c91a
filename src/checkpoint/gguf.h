// Reads one GGUF v3 file: metadata through typed getters, tensors dequantized to bf16. Counts are
// tested against the bytes left before anything is allocated, sizes are computed with checked
// arithmetic, tensors must tile the data section. Metadata values stay in the file until asked
// for. Immutable after construction; threads may share it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "checkpoint/gguf_blocks.h"
#include "tensor/tensor.h"

namespace narrow::checkpoint {

struct GgufTensor {
  const GgufType* type = nullptr;
  std::vector<int64_t> shape;  // slowest dimension first, as Hugging Face has it
  int64_t offset = 0;          // bytes, from the start of the file
  int64_t bytes = 0;
};

class GgufFile {
 public:
  // Throws Error::refused naming the field or tensor that is wrong.
  explicit GgufFile(InputFile file);

  const std::filesystem::path& path() const { return file_.path(); }

  // Metadata by key. Empty when the key is absent; Throws Error::refused when it has another type.
  // Integers of any width and sign are one type here, as are both float widths.
  std::optional<std::string> text(const std::string& key) const;
  std::optional<int64_t> integer(const std::string& key) const;
  std::optional<double> real(const std::string& key) const;
  std::optional<bool> flag(const std::string& key) const;
  std::optional<std::vector<std::string>> texts(const std::string& key) const;
  std::optional<std::vector<int64_t>> integers(const std::string& key) const;

  const std::map<std::string, GgufTensor>& tensors() const { return tensors_; }
  // bf16, in the shape of tensors(). Throws Error::refused for an unknown name.
  Tensor read(const std::string& name) const;

 private:
  struct Value {
    uint32_t type = 0;             // of the value, or of the elements of an array
    std::optional<int64_t> count;  // of elements; none: not an array
    int64_t offset = 0;            // of the first payload byte (a string's is its length)
  };
  class Cursor;

  void read_metadata(Cursor& cursor, int64_t count);
  void read_tensors(Cursor& cursor, int64_t count);
  void place_tensors(int64_t header_end);
  const Value* find(const std::string& key, bool array) const;
  int64_t take_integer(Cursor& cursor, uint32_t type, const std::string& key) const;
  std::string place(const std::string& what) const { return path().string() + ": " + what; }

  InputFile file_;
  std::map<std::string, Value> metadata_;
  std::map<std::string, GgufTensor> tensors_;
};

}  // namespace narrow::checkpoint
