// y = x Wᵀ in tiles of shared memory that cp.async fills, from some rows to thousands
// (portable.cuh). A Format says how weights get from global to shared memory and from there into
// registers (RowFormat in portable_rows.cuh, Int4Chunks in portable_int4.cu).
#pragma once

#include <algorithm>

#include "ops/cuda/launch.cuh"
#include "ops/cuda/portable.cuh"
#include "ops/cuda/tensor_map.h"

namespace narrow::ops::cuda {

// What every device from Ampere on lets a block have is 99 KiB; with half of it two blocks share a
// processor and hide each other's beginnings and ends.
inline constexpr int kBlockBytes = 96 << 10, kHalfBlockBytes = 48 << 10;

struct TileWork {
  Product product;
  int token_tiles, out_tiles;
  int weight_bytes, stages, stage_bytes;  // weights of a stage come first
};

// kM tiles of sixteen outputs by kN of eight rows of x to a warp, kOutWarps by kTokenWarps warps.
template <int kM, int kN, int kOutWarps, int kTokenWarps>
struct Tile {
  static constexpr int kOuts = 16 * kM * kOutWarps, kTokens = 8 * kN * kTokenWarps;
  static constexpr int kThreads = kOutWarps * kTokenWarps * kWarpSize;
  static constexpr int kPitch = kOuts + 8;  // of results that wait to be stored
};

// Neighbouring blocks take tiles of the same weights, and few enough rows of x that these stay in
// the second-level cache while the weights change.
__device__ inline int2 place_of_block(const TileWork& work, int block) {
  constexpr int kTogether = 8;
  const int of_group = kTogether * work.out_tiles;
  const int first = block / of_group * kTogether, within = block % of_group;
  const int tokens = min(kTogether, work.token_tiles - first);
  return make_int2(first + within % tokens, within / tokens);
}

template <class Format, int kM, int kN, int kOutWarps, int kTokenWarps>
__global__ void __launch_bounds__(Tile<kM, kN, kOutWarps, kTokenWarps>::kThreads)
    portable_tile_kernel(TileWork work) {
  using T = Tile<kM, kN, kOutWarps, kTokenWarps>;
  using Sum = typename Format::Sum;
  constexpr int kXAtoms = Format::kXAtoms;
  extern __shared__ uint4 memory[];
  const Product& product = work.product;
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int2 place = place_of_block(work, blockIdx.x);
  const int token0 = place.x * T::kTokens, out0 = place.y * T::kOuts;
  const int warp_out = warp % kOutWarps * 16 * kM, warp_token = warp / kOutWarps * 8 * kN;
  const int stage_units = work.stage_bytes / kUnitBytes;
  const int weight_units = work.weight_bytes / kUnitBytes;

  const auto copy_weights = [&](int chunk, int stage) {
    Format::template copy_weights<T::kOuts, T::kThreads>(product, memory + stage * stage_units,
                                                         chunk, out0);
  };
  constexpr int kXUnits = kXAtoms * kAtomUnits, kXRows = T::kThreads / kXUnits;
  static_assert(T::kTokens % kXRows == 0);
  const int x_row = threadIdx.x / kXUnits, x_unit = threadIdx.x % kXUnits;
  const uint8_t* x_from = product.x + (token0 + x_row) * product.x_stride + x_unit * kUnitBytes;
  const auto copy_x = [&](int chunk, int stage) {
    uint4* to =
        memory + stage * stage_units + weight_units + x_unit / kAtomUnits * T::kTokens * kAtomUnits;
    const int64_t at = static_cast<int64_t>(chunk) * kXUnits * kUnitBytes;
    const bool within = at + x_unit * kUnitBytes < product.x_bytes;
#pragma unroll
    for (int i = 0; i < T::kTokens / kXRows; ++i) {
      const int row = x_row + i * kXRows;
      const bool there = within && token0 + row < product.rows;
      copy_unit_async(to + row * kAtomUnits + (x_unit % kAtomUnits ^ exchange_of(row)),
                      there ? x_from + at + i * kXRows * product.x_stride : product.x, there);
    }
  };

  // Weights do not depend on the kernel before this one: the first are under way while it ends.
  let_next_kernel_start();
  const int ahead = work.stages - 1;
  for (int chunk = 0; chunk < min(ahead, product.chunks); ++chunk) copy_weights(chunk, chunk);
  wait_for_previous_kernel();
  for (int chunk = 0; chunk < ahead; ++chunk) {
    if (chunk < product.chunks) copy_x(chunk, chunk);
    commit_copies();
  }

  Sum sums[kM][kN][4] = {};
  [[maybe_unused]] Sum totals[Format::kExact ? 1 : kM][kN][4] = {};
  int stage = 0, next_stage = ahead;
  for (int part = 0; part < kInt4Parts; ++part) {
    const int end = first_int4_chunk(part + 1, product.chunks);
    for (int chunk = first_int4_chunk(part, product.chunks); chunk < end; ++chunk) {
      wait_for_copies(work.stages - 2);
      __syncthreads();
      if (chunk + ahead < product.chunks) {
        copy_weights(chunk + ahead, next_stage);
        copy_x(chunk + ahead, next_stage);
      }
      commit_copies();
      next_stage = next_stage + 1 == work.stages ? 0 : next_stage + 1;
      const uint4* weights = memory + stage * stage_units;
      const uint4* x = weights + weight_units;
#pragma unroll
      for (int pair = 0; pair < Format::kPairs; ++pair) {
        uint32_t a[kM][2][4];
#pragma unroll
        for (int m = 0; m < kM; ++m)
          Format::operands(product, weights, warp_out + 16 * m, pair, lane, a[m]);
          // Four tiles at a time: enough products between two of the same sum.
#pragma unroll
        for (int first = 0; first < kN; first += 4) {
          uint4 b[4];
#pragma unroll
          for (int n = 0; n < 4; ++n)
            b[n] = Format::template inputs<T::kTokens>(x, warp_token + 8 * (first + n), pair, lane);
#pragma unroll
          for (int step = 0; step < 2; ++step)
#pragma unroll
            for (int n = 0; n < 4; ++n)
#pragma unroll
              for (int m = 0; m < kM; ++m)
                Format::multiply(sums[m][first + n], a[m][step], step == 0 ? b[n].x : b[n].z,
                                 step == 0 ? b[n].y : b[n].w);
        }
      }
      stage = stage + 1 == work.stages ? 0 : stage + 1;
    }
    if constexpr (!Format::kExact) {
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int n = 0; n < kN; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            totals[m][n][i] += sums[m][n][i];
            sums[m][n][i] = 0;
          }
    }
  }

  // Results go through shared memory, so that rows of y are written in whole pieces.
  __syncthreads();
  auto* staging = reinterpret_cast<__nv_bfloat16*>(memory);
  const Output& y = product.y;
  const int g = lane / 4, t = lane % 4;
  float column_scale[kM][2], bias[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int column = out0 + warp_out + 16 * m + g + 8 * i;
      const bool there = column < product.out;
      column_scale[m][i] = Format::kColumnScale && there ? product.column_scale[column] : 0;
      bias[m][i] = y.bias && there ? y.bias[column] : 0;
    }
#pragma unroll
  for (int n = 0; n < kN; ++n)
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int token = warp_token + 8 * n + 2 * t + c;
      const bool there = token0 + token < product.rows;
      const float row_scale = Format::kRowScale && there ? product.row_scale[token0 + token] : 0;
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int column = warp_out + 16 * m + g + 8 * i;
          const Sum sum =
              Format::kExact ? sums[m][n][2 * i + c] : totals[Format::kExact ? 0 : m][n][2 * i + c];
          const float value = Format::finish(sum, row_scale, column_scale[m][i], bias[m][i]);
          if (!y.f32) {
            staging[token * T::kPitch + column] = __float2bfloat16_rn(value);
          } else if (there && out0 + column < product.out) {
            store_result(y, token0 + token, out0 + column, value);
          }
        }
    }
  if (y.f32) return;
  __syncthreads();
  auto* to = static_cast<__nv_bfloat16*>(y.data);
  const int tokens = min(T::kTokens, product.rows - token0);
  if (out0 + T::kOuts <= product.out && y.stride % 8 == 0 &&
      reinterpret_cast<uintptr_t>(to) % kUnitBytes == 0) {
    for (int i = threadIdx.x; i < tokens * T::kOuts / 8; i += T::kThreads) {
      const int token = i / (T::kOuts / 8), n = i % (T::kOuts / 8) * 8;
      *reinterpret_cast<uint4*>(to + (token0 + token) * y.stride + out0 + n) =
          *reinterpret_cast<const uint4*>(staging + token * T::kPitch + n);
    }
  } else {
    for (int i = threadIdx.x; i < tokens * T::kOuts; i += T::kThreads) {
      const int token = i / T::kOuts, n = i % T::kOuts;
      if (out0 + n < product.out)
        to[(token0 + token) * y.stride + out0 + n] = staging[token * T::kPitch + n];
    }
  }
}

template <class Format, int kM, int kN, int kOutWarps, int kTokenWarps>
void launch_tiles(const Product& product, cudaStream_t stream) {
  using T = Tile<kM, kN, kOutWarps, kTokenWarps>;
  const auto kernel = portable_tile_kernel<Format, kM, kN, kOutWarps, kTokenWarps>;
  static const bool allowed = [&] {
    allow_shared_memory(kernel, kBlockBytes);
    return true;
  }();
  (void)allowed;
  TileWork work{};
  work.product = product;
  work.token_tiles = div_up(product.rows, T::kTokens);
  work.out_tiles = div_up(product.out, T::kOuts);
  work.weight_bytes = Format::weight_bytes(product, T::kOuts);
  work.stage_bytes = work.weight_bytes + T::kTokens * Format::kXAtoms * kAtomUnits * kUnitBytes;
  const int tiles = work.token_tiles * work.out_tiles;
  // Blocks of the large tile need all registers of a processor.
  const bool alone = tiles <= processors() || T::kThreads > 128;
  work.stages =
      std::clamp((alone ? kBlockBytes : kHalfBlockBytes) / work.stage_bytes, 2, kMostPending + 2);
  const int staging = T::kTokens * T::kPitch * 2;
  launch(kernel, static_cast<unsigned>(tiles), T::kThreads,
         static_cast<size_t>(std::max(work.stages * work.stage_bytes, staging)), stream, work);
}

// Picks the tile; it changes no bit of the result.
template <class Format>
void run_tiles(const Product& product, cudaStream_t stream) {
  if (product.rows <= 32) return launch_tiles<Format, 1, 4, 4, 1>(product, stream);
  const int large = div_up(product.rows, 128) * div_up(product.out, 128);
  // The large tile reads shared memory half as often: worth some idle processors.
  if (product.rows <= 64 || 5 * large < 3 * processors())
    return launch_tiles<Format, 2, 4, 2, 2>(product, stream);
  launch_tiles<Format, 2, 8, 4, 2>(product, stream);
}

}  // namespace narrow::ops::cuda
