// 4-bit weights in the order in which the device's threads load them (int4.cuh): a host-side
// permutation of the checkpoint's codes, made once at load. Pure functions.
//
// Chunks of kInt4Outs outputs by kInt4Inputs inputs, [out / 64][in / 128] of them, each whole in
// memory so that one copy brings it:
//   words    [2 halves][128 threads][4 steps of 16 inputs] of 32 bits
//   scales   [128 / group][4 warps][8]: bf16 of rows g and g + 8, times 2^133 and 2^129 (int4.cuh)
//            and divided by the output's factor
//   offsets  the same, 8 + zero point as the mask of the row makes it of a nibble; absent when
//            symmetric
#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "ops/cuda/kernels.h"
#include "tensor/packed_linear.h"

namespace narrow::ops::cuda {

struct Int4Layout {
  Tensor chunks;  // i32
  // [out] powers of two, such that an output's largest scale, multiplied with 2^133 and divided by
  // its factor, is among the largest numbers that bf16 has. What a group 2^120 times smaller adds
  // is lost. NaN: the output has a scale that is no number.
  std::vector<float> factors;
  int group = 128;        // 32, 64 or 128
  bool offsets = false;   // asymmetric
  int64_t in_padded = 0;  // multiple of kInt4Inputs
  // [in] the layer's column that stands at each input here; empty: they stand as in the layer.
  std::vector<int32_t> columns;
};

// Whether a layer can run as 4-bit: 4 bits, bf16 scales, groups of 32, 64 or a multiple of 128 (one
// scale per output included). Columns may belong to groups in any order (legacy act-order), as long
// as every group has its size.
bool runs_as_int4(const PackedLinear& linear);

// REQUIRES: runs_as_int4(linear). Outputs are padded with zeros to a multiple of kInt4Outs. Columns
// are brought into the order of their groups, those of one group as they stood: so layers with the
// same group_index have the same order.
Int4Layout make_int4_layout(const PackedLinear& linear, ThreadPool& pool);

}  // namespace narrow::ops::cuda
