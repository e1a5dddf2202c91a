// Products of the portable kernels whose weights are rows of numbers: one function for a file per
// format.
#pragma once

#include "ops/cuda/portable_rows.cuh"
#include "ops/cuda/portable_stream.cuh"
#include "ops/cuda/portable_tiles.cuh"

namespace narrow::ops::cuda {

// x_element: bytes of an element of x.
template <class Numbers>
void run_portable(const Gemm& gemm, int64_t x_element, cudaStream_t stream) {
  static_assert(kRowTile % kStreamOuts == 0);
  if (gemm.rows == 0) return;
  Product product;
  product.weight = static_cast<const uint8_t*>(gemm.weight);
  product.weight_stride = gemm.w_stride;
  product.weight_rows = static_cast<int>(gemm.w_rows);
  product.x = static_cast<const uint8_t*>(gemm.x);
  product.x_stride = gemm.x_stride;
  product.x_bytes = static_cast<int>(gemm.in * x_element);
  product.rows = static_cast<int>(gemm.rows);
  product.out = static_cast<int>(gemm.out);
  product.chunks = div_up(gemm.in, Numbers::kChunkInputs);
  product.row_scale = gemm.row_scale;
  product.column_scale = gemm.column_scale;
  product.y = gemm.y;
  if (gemm.rows <= kMostStreamRows) return run_stream<Numbers>(product, stream);
  run_tiles<RowFormat<Numbers>>(product, stream);
}

}  // namespace narrow::ops::cuda
