// The block formats of GGUF tensors and their exact meaning as floats, operation by operation as
// the format's own Python package computes it. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace narrow::checkpoint {

struct GgufType {
  uint32_t id;  // as in the file
  std::string_view name;
  int64_t block_elements;  // consecutive elements of a row that form one block
  int64_t block_bytes;
};

// nullptr for a type that cannot be read: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K
// and Q6_K can.
const GgufType* find_gguf_type(uint32_t id);

// REQUIRES: blocks.size() is a multiple of block_bytes, out has block_elements for each block.
void dequantize_gguf(const GgufType& type, std::span<const std::byte> blocks, std::span<float> out);

}  // namespace narrow::checkpoint
