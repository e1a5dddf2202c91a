// y = x Wᵀ for few rows of x: a stream of weights, bound by memory (portable.cuh). A block owns
// sixteen outputs; each of its warps walks one part of the inputs with the next chunks under way in
// registers, and the parts are added in their order.
#pragma once

#include "ops/cuda/launch.cuh"
#include "ops/cuda/output.cuh"
#include "ops/cuda/portable_rows.cuh"

namespace narrow::ops::cuda {

inline constexpr int kStreamOuts = 16;

template <class Numbers, int kTokenTiles>
__global__ void __launch_bounds__(kInt4Parts* kWarpSize) portable_stream_kernel(Product product) {
  using Sum = typename Numbers::Sum;
  constexpr int kAhead = kTokenTiles == 1 ? 4 : 2;   // chunks
  constexpr int kUnits = Numbers::kWeightUnits / 4;  // of a row of a chunk, of a lane
  constexpr int kXUnits = kChunkSteps / 2;           // likewise, of a row of x
  constexpr int kResults = kStreamOuts * 8 * kTokenTiles;
  __shared__ Sum partial[kInt4Parts][kResults];
  const int part = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int begin = first_int4_chunk(part, product.chunks);
  const int end = first_int4_chunk(part + 1, product.chunks);
  const int out0 = blockIdx.x * kStreamOuts;
  const uint8_t* low_row = product.weight + (out0 + g) * product.weight_stride;

  struct Chunk {
    uint4 low[kUnits], high[kUnits], x[kTokenTiles][kXUnits];
  };
  Chunk ring[kAhead];
  const auto load_weights = [&](Chunk& to, int chunk) {
#pragma unroll
    for (int i = 0; i < kUnits; ++i) {
      const int64_t at =
          (static_cast<int64_t>(chunk) * Numbers::kWeightUnits + Numbers::weight_unit(i, t)) *
          kUnitBytes;
      to.low[i] = load_streaming(low_row + at);
      to.high[i] = load_streaming(low_row + 8 * product.weight_stride + at);
    }
  };
  const auto load_x = [&](Chunk& to, int chunk) {
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n)
#pragma unroll
      for (int i = 0; i < kXUnits; ++i) {
        const int64_t at =
            (static_cast<int64_t>(chunk) * kAtomUnits + Numbers::x_unit(i, t)) * kUnitBytes;
        const int row = 8 * n + g;
        to.x[n][i] = row < product.rows && at < product.x_bytes
                         ? *reinterpret_cast<const uint4*>(product.x + row * product.x_stride + at)
                         : uint4{};
      }
  };
  // Weights do not depend on the kernel before this one: the first are under way while it ends.
#pragma unroll
  for (int i = 0; i < kAhead; ++i)
    if (begin + i < end) load_weights(ring[i], begin + i);
  wait_for_previous_kernel();
  let_next_kernel_start();
#pragma unroll
  for (int i = 0; i < kAhead; ++i)
    if (begin + i < end) load_x(ring[i], begin + i);

  Sum sums[kTokenTiles][4] = {};
  for (int first = begin; first < end; first += kAhead) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (first + i >= end) break;
#pragma unroll
      for (int step = 0; step < kChunkSteps; ++step) {
        const int unit = kUnits == kXUnits ? step / 2 : 0;
        uint32_t a[4];
        Numbers::operand(ring[i].low[unit], ring[i].high[unit], step, a);
#pragma unroll
        for (int n = 0; n < kTokenTiles; ++n) {
          const uint4& b = ring[i].x[n][step / 2];
          Numbers::multiply(sums[n], a, word_of(b, step % 2 * 2), word_of(b, step % 2 * 2 + 1));
        }
      }
      if (first + i + kAhead < end) {
        load_weights(ring[i], first + i + kAhead);
        load_x(ring[i], first + i + kAhead);
      }
    }
  }

#pragma unroll
  for (int n = 0; n < kTokenTiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      partial[part][(8 * n + 2 * t + i % 2) * kStreamOuts + g + 8 * (i / 2)] = sums[n][i];
  __syncthreads();
  for (int i = threadIdx.x; i < kResults; i += blockDim.x) {
    const int row = i / kStreamOuts, column = out0 + i % kStreamOuts;
    if (row >= product.rows || column >= product.out) continue;
    Sum total = 0;
#pragma unroll
    for (int p = 0; p < kInt4Parts; ++p) total += partial[p][i];
    store_number(product.y, row, column,
                 Numbers::finish(total, Numbers::kRowScale ? product.row_scale[row] : 0,
                                 Numbers::kColumnScale ? product.column_scale[column] : 0,
                                 product.y.bias ? product.y.bias[column] : 0));
  }
}

// REQUIRES: at most kMostStreamRows rows; weights are padded to whole tiles of kStreamOuts rows.
inline constexpr int kMostStreamRows = 16;
template <class Numbers>
void run_stream(const Product& product, cudaStream_t stream) {
  launch(
      product.rows <= 8 ? portable_stream_kernel<Numbers, 1> : portable_stream_kernel<Numbers, 2>,
      static_cast<unsigned>(div_up(product.out, kStreamOuts)), kInt4Parts * kWarpSize, 0, stream,
      product);
}

}  // namespace narrow::ops::cuda
