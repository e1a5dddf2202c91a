// What the portable kernels share: what a product is described by, where operands lie in shared
// memory.
//
// Weights stand along the sixteen rows of an mma tile and rows of x along its eight columns, so
// that a weight is converted once for many rows of x. An output is kInt4Parts contiguous parts of
// the inputs, added in their order (int4.cuh); a part is one running sum over whole chunks, in
// steps of the instruction. That order is the same in every kernel and for every tile, so a row's
// bits are the same alone and among thousands.
#pragma once

#include "ops/cuda/async_copies.cuh"
#include "ops/cuda/device.cuh"
#include "ops/cuda/int4.cuh"
#include "ops/cuda/kernels.h"

namespace narrow::ops::cuda {

inline constexpr int kAtomUnits = 8;  // of a row of x in shared memory: 128 bytes

// Units of a row of 128 bytes are exchanged by xor with this: then the same unit of eight rows lies
// in eight places (ldmatrix), and so do units 4h … 4h + 3, and units 2t, of two neighbouring rows
// (a lane's loads of 16 bytes).
__device__ inline int exchange_of(int row) { return (row & 6) ^ (row & 1) * 5; }

struct Product {
  const uint8_t* weight = nullptr;
  int64_t weight_stride = 0;  // bytes of a row; of 4-bit weights: of a row of chunks
  int weight_rows = 0;
  int chunk_bytes = 0;   // of 4-bit weights
  int groups = 1;        // of a chunk of 4-bit weights
  bool offsets = false;  // of 4-bit weights
  const uint8_t* x = nullptr;
  int64_t x_stride = 0;  // bytes of a row
  int x_bytes = 0;       // of a row that there are, a multiple of a unit; behind them: zeros
  int rows = 0, out = 0, chunks = 0;
  const float* row_scale = nullptr;     // int8
  const float* column_scale = nullptr;  // int8, e4m3
  // Zero, which the compiler does not know: an operand of mma that is exclusive-ored with it is put
  // together once; words as loaded would be copied into place for each mma that reads them.
  uint32_t zero = 0;
  Output y;
};

}  // namespace narrow::ops::cuda
