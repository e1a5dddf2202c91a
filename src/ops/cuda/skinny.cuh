// Products for 4-bit weights and for widths that gemm.cuh does not take: a stream of weights, bound
// by memory. A block of eight warps owns 16 outputs (times kRowTiles); its warps take turns along
// the inputs, so that the block reads its weights front to back, and their sums are added in the
// order of the warps. A row of x is a column of the mma tile: its result does not depend on the
// others, nor on how many there are.
//
// A Format says how one warp reads and multiplies one step of inputs:
//   using Weights, Sum
//   struct Step                       registers of one step's weights
//   kStepInputs                       inputs of a step
//   load(weights, row_tile, step, in_padded) -> Step
//   multiply<kTokenTiles>(step registers, weights, row_tile, step, x, token0, rows, sums)
//   finish(sum, weights, output, row of x) -> float
#pragma once

#include "ops/cuda/device.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/output.cuh"

namespace narrow::ops::cuda {

inline constexpr int kSkinnyWarps = 8;

template <class Format, int kTokenTiles, int kRowTiles, int kUnroll>
__global__ void __launch_bounds__(kSkinnyWarps* kWarpSize)
    skinny_kernel(typename Format::Weights weights, typename Format::X x, int out, int steps,
                  int rows, Output y) {
  using Sum = typename Format::Sum;
  __shared__ Sum partial[kSkinnyWarps][kRowTiles * kTokenTiles][kRowTile * 8];
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int row_tile0 = blockIdx.y * kRowTiles;
  const int token0 = blockIdx.x * kTokenTiles * 8;
  Sum sums[kRowTiles][kTokenTiles][4] = {};

  typename Format::Step loaded[kUnroll][kRowTiles];
  const auto load = [&](int base) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r)
        if (base + u * kSkinnyWarps < steps)
          loaded[u][r] = Format::load(weights, row_tile0 + r, base + u * kSkinnyWarps, lane);
  };
  // Weights do not depend on the kernel before this one: the first are under way while it ends.
  load(warp);
  wait_for_previous_kernel();
  let_next_kernel_start();
  for (int base = warp; base < steps; base += kUnroll * kSkinnyWarps) {
    if (base != warp) load(base);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int step = base + u * kSkinnyWarps;
      if (step >= steps) break;
      typename Format::template Inputs<kTokenTiles> inputs;
      inputs.load(x, step, token0, rows, lane);
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r)
        Format::multiply(loaded[u][r], weights, row_tile0 + r, step, inputs, sums[r], lane);
    }
  }

#pragma unroll
  for (int r = 0; r < kRowTiles; ++r)
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) {
      Sum* to = partial[warp][r * kTokenTiles + n];
      to[(2 * t) * kRowTile + g] = sums[r][n][0];
      to[(2 * t + 1) * kRowTile + g] = sums[r][n][1];
      to[(2 * t) * kRowTile + g + 8] = sums[r][n][2];
      to[(2 * t + 1) * kRowTile + g + 8] = sums[r][n][3];
    }
  __syncthreads();
  for (int i = threadIdx.x; i < kRowTiles * kTokenTiles * kRowTile * 8; i += blockDim.x) {
    const int tile = i / (kRowTile * 8), element = i % (kRowTile * 8);
    const int r = tile / kTokenTiles, n = tile % kTokenTiles;
    const int row = token0 + n * 8 + element / kRowTile;
    const int column = (row_tile0 + r) * kRowTile + element % kRowTile;
    if (row >= rows || column >= out) continue;
    Sum total = 0;
#pragma unroll
    for (int w = 0; w < kSkinnyWarps; ++w) total += partial[w][tile][element];
    float value = Format::finish(total, weights, x, column, row);
    if (y.bias) value += y.bias[column];
    store_number(y, row, column, value);
  }
}

// Picks the tile. Every block reads its rows of x whole: from nine rows on that outweighs the
// weights of one row tile, so a block takes two where that leaves a block for each processor. The
// tile changes no bit of the result.
template <class Format, int kUnroll>
void launch_skinny(typename Format::Weights weights, typename Format::X x, int64_t out,
                   int64_t in_padded, int64_t rows, Output y, cudaStream_t stream) {
  if (rows == 0) return;
  constexpr int kProcessors = 120;
  const int steps = static_cast<int>(in_padded / Format::kStepInputs);
  const int row_tiles = div_up(out, kRowTile);
  const bool two = row_tiles % 2 == 0 && row_tiles / 2 >= kProcessors;
  const auto run = [&](auto kernel, int tokens, int tiles) {
    // Blocks that share weights are neighbours: the second finds them in the second-level cache.
    launch(
        kernel,
        dim3(static_cast<unsigned>(div_up(rows, tokens)), static_cast<unsigned>(row_tiles / tiles)),
        kSkinnyWarps * kWarpSize, 0, stream, weights, x, static_cast<int>(out), steps,
        static_cast<int>(rows), y);
  };
  if (rows <= 8) {
    run(skinny_kernel<Format, 1, 1, kUnroll>, 8, 1);
  } else if (rows <= 16) {
    if (two) {
      run(skinny_kernel<Format, 2, 2, kUnroll / 2>, 16, 2);
    } else {
      run(skinny_kernel<Format, 2, 1, kUnroll>, 16, 1);
    }
  } else if (two) {
    run(skinny_kernel<Format, 4, 2, kUnroll / 2>, kSkinnyRows, 2);
  } else {
    run(skinny_kernel<Format, 4, 1, kUnroll>, kSkinnyRows, 1);
  }
}

}  // namespace narrow::ops::cuda
