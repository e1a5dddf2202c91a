// 4-bit weights in the order in which the device's threads load them (int4.cuh): a host-side
// permutation of the checkpoint's codes, made once at load. Pure functions.
//
// Chunks of kInt4Outs outputs by kInt4Inputs inputs, [out / 64][in / 128] of them, each whole in
// memory so that one copy brings it:
//   words    [2 halves][128 threads][4 steps of 16 inputs] of 32 bits
//   scales   [128 / group][4 warps][8]: bf16 of rows g and g + 8
//   offsets  the same, bf16 of 136 + zero point; absent when symmetric
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "ops/cuda/kernels.h"
#include "tensor/packed_linear.h"

namespace narrow::ops::cuda {

struct Int4Layout {
  Tensor chunks;          // i32
  int group = 128;        // 32, 64 or 128
  bool offsets = false;   // asymmetric
  int64_t in_padded = 0;  // multiple of kInt4Inputs
};

// Whether a layer can run as 4-bit: 4 bits, bf16 scales, groups of 32, 64 or a multiple of 128 (one
// scale per output included), columns in the order of their groups.
bool runs_as_int4(const PackedLinear& linear);

// REQUIRES: runs_as_int4(linear). Outputs are padded with zeros to a multiple of kInt4Outs.
Int4Layout make_int4_layout(const PackedLinear& linear, ThreadPool& pool);

}  // namespace narrow::ops::cuda
