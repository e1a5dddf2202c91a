// 4-bit weights in the order in which the device's lanes load them (int4.cuh): a host-side
// permutation of the checkpoint's codes, made once at load. Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "tensor/packed_linear.h"

namespace narrow::ops::cuda {

struct Int4Layout {
  std::vector<uint32_t> words;    // [out / 16][in_padded / 64][32 lanes][4]
  std::vector<uint32_t> scales;   // [out / 16][in_padded / group][8]: bf16 of rows g and g + 8
  std::vector<uint32_t> offsets;  // the same, bf16 of 136 + zero point; empty: symmetric
  int group = 128;                // 32, 64 or 128
  int64_t in_padded = 0;          // multiple of 128
};

// Whether a layer can run as 4-bit: 4 bits, bf16 scales, groups of 32, 64 or a multiple of 128 (one
// scale per output included), columns in the order of their groups.
bool runs_as_int4(const PackedLinear& linear);

// REQUIRES: runs_as_int4(linear). Outputs are padded with zeros to a multiple of 16.
Int4Layout make_int4_layout(const PackedLinear& linear, ThreadPool& pool);

}  // namespace narrow::ops::cuda
