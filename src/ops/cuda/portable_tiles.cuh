// y = x Wᵀ in tiles of shared memory that cp.async fills, from some rows to thousands
// (portable.cuh). A Format says how weights get from global to shared memory and from there into
// registers (RowFormat in portable_rows.cuh, Int4Chunks in portable_int4.cu).
#pragma once

#include <algorithm>

#include "ops/cuda/launch.cuh"
#include "ops/cuda/output.cuh"
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
// Where tiles are few, kSplits such groups of warps share the parts of the inputs, with memory of
// their own, so that a processor has enough warps to hide what one waits for.
template <int kM_, int kN_, int kOutWarps_, int kTokenWarps_, int kSplits_>
struct Tile {
  static constexpr int kM = kM_, kN = kN_, kOutWarps = kOutWarps_, kSplits = kSplits_;
  static constexpr int kOuts = 16 * kM * kOutWarps, kTokens = 8 * kN * kTokenWarps_;
  static constexpr int kGroup = kOutWarps * kTokenWarps_ * kWarpSize, kThreads = kSplits * kGroup;
  static constexpr int kParts = kInt4Parts / kSplits;
  static constexpr int kPitch = kOuts + 8;  // of results that wait to be stored
  static constexpr int kStagingBytes = kTokens * kPitch * 2;
  static constexpr int kExchangeBytes = (kInt4Parts - kParts) * kOuts * kTokens * 4;
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

// Sums of a warp.
template <class Sum, class T>
using TileSums = Sum[T::kM][T::kN][4];

template <class Function, class Sum, int kM, int kN>
__device__ void for_each_sum(Sum (&sums)[kM][kN][4], Function function) {
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) function(sums[m][n][i], (m * kN + n) * 4 + i);
}

// A chunk's products added to a warp's sums.
template <class Format, class T>
__device__ void multiply_chunk(const Product& product, const uint4* weights, const uint4* x,
                               int warp_out, int warp_token, int lane,
                               TileSums<typename Format::Sum, T>& sums) {
#pragma unroll
  for (int pair = 0; pair < Format::kPairs; ++pair) {
    uint32_t a[T::kM][2][4];
#pragma unroll
    for (int m = 0; m < T::kM; ++m)
      Format::operands(product, weights, warp_out + 16 * m, pair, lane, a[m]);
      // Four tiles at a time: enough products between two of the same sum.
#pragma unroll
    for (int first = 0; first < T::kN; first += 4) {
      uint4 b[4];
#pragma unroll
      for (int n = 0; n < 4; ++n)
        b[n] = Format::template inputs<T::kTokens>(x, warp_token + 8 * (first + n), pair, lane);
#pragma unroll
      for (int step = 0; step < 2; ++step)
#pragma unroll
        for (int n = 0; n < 4; ++n)
#pragma unroll
          for (int m = 0; m < T::kM; ++m)
            Format::multiply(sums[m][first + n], a[m][step], step == 0 ? b[n].x : b[n].z,
                             step == 0 ? b[n].y : b[n].w);
    }
  }
}

// store(row of x, output, result) for a lane's results, both within the tile.
template <class Format, class T, class Store>
__device__ void finish_sums(const Product& product, const TileSums<typename Format::Sum, T>& sums,
                            int token0, int out0, int warp_token, int warp_out, int lane,
                            Store store) {
  const int g = lane / 4, t = lane % 4;
  float column_scale[T::kM][2], bias[T::kM][2];
#pragma unroll
  for (int m = 0; m < T::kM; ++m)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int column = out0 + warp_out + 16 * m + g + 8 * i;
      const bool there = column < product.out;
      column_scale[m][i] = Format::kColumnScale && there ? product.column_scale[column] : 0;
      bias[m][i] = product.y.bias && there ? product.y.bias[column] : 0;
    }
#pragma unroll
  for (int n = 0; n < T::kN; ++n)
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int token = warp_token + 8 * n + 2 * t + c;
      const float row_scale = Format::kRowScale && token0 + token < product.rows
                                  ? product.row_scale[token0 + token]
                                  : 0;
#pragma unroll
      for (int m = 0; m < T::kM; ++m)
#pragma unroll
        for (int i = 0; i < 2; ++i)
          store(token, warp_out + 16 * m + g + 8 * i,
                Format::finish(sums[m][n][2 * i + c], row_scale, column_scale[m][i], bias[m][i]));
    }
}

// Writes a tile of bf16, staging: [token][T::kPitch], by the threads of a group.
template <class T>
__device__ void store_staged(const Product& product, const __nv_bfloat16* staging, int token0,
                             int out0, int thread) {
  const Output& y = product.y;
  const int tokens = min(T::kTokens, product.rows - token0);
  if (out0 + T::kOuts <= product.out && has_aligned_rows(y)) {
    for (int i = thread; i < tokens * T::kOuts / 8; i += T::kGroup) {
      const int token = i / (T::kOuts / 8), n = i % (T::kOuts / 8) * 8;
      store_eight(y, token0 + token, out0 + n,
                  *reinterpret_cast<const uint4*>(staging + token * T::kPitch + n));
    }
  } else {
    for (int i = thread; i < tokens * T::kOuts; i += T::kGroup) {
      const int token = i / T::kOuts, n = i % T::kOuts;
      if (out0 + n < product.out)
        store_number(y, token0 + token, out0 + n, __bfloat162float(staging[token * T::kPitch + n]));
    }
  }
}

template <class Format, class T>
__global__ void __launch_bounds__(T::kThreads) portable_tile_kernel(TileWork work) {
  using Sum = typename Format::Sum;
  uint4* const memory = block_memory();
  const Product& product = work.product;
  const int split = threadIdx.x / T::kGroup, thread = threadIdx.x % T::kGroup;
  const int warp = thread / kWarpSize, lane = thread % kWarpSize;
  const int2 place = place_of_block(work, blockIdx.x);
  const int token0 = place.x * T::kTokens, out0 = place.y * T::kOuts;
  const int warp_out = warp % T::kOutWarps * 16 * T::kM;
  const int warp_token = warp / T::kOutWarps * 8 * T::kN;
  const int stage_units = work.stage_bytes / kUnitBytes;
  const int weight_units = work.weight_bytes / kUnitBytes;
  uint4* ring = memory + split * work.stages * stage_units;

  const typename Format::template WeightCopies<T::kOuts, T::kGroup> weight_copies(product, out0,
                                                                                  thread);
  constexpr int kXUnits = Format::kXAtoms * kAtomUnits, kXRows = T::kGroup / kXUnits;
  constexpr int kXCopies = T::kTokens / kXRows;
  static_assert(T::kTokens % kXRows == 0 && kXRows % 8 == 0);
  const int x_row = thread / kXUnits, x_unit = thread % kXUnits;
  const int x_to = weight_units + (x_unit / kAtomUnits * T::kTokens + x_row) * kAtomUnits +
                   (x_unit % kAtomUnits ^ exchange_of(x_row));
  const uint8_t* x_from[kXCopies];
#pragma unroll
  for (int i = 0; i < kXCopies; ++i)
    // Beyond the last row nothing is stored: any row does.
    x_from[i] = product.x + min(token0 + x_row + i * kXRows, product.rows - 1) * product.x_stride +
                x_unit * kUnitBytes;
  const auto copy_x = [&](int chunk, int stage) {
    uint4* to = ring + stage * stage_units + x_to;
    const int64_t at = static_cast<int64_t>(chunk) * (kXUnits * kUnitBytes);
    const bool there = at + x_unit * kUnitBytes < product.x_bytes;
#pragma unroll
    for (int i = 0; i < kXCopies; ++i)
      copy_unit_async(to + i * kXRows * kAtomUnits, x_from[i] + at, there);
  };

  // Weights do not depend on the kernel before this one: the first are under way while it ends.
  const int begin = first_int4_chunk(split * T::kParts, product.chunks);
  const int end = first_int4_chunk((split + 1) * T::kParts, product.chunks);
  const int ahead = work.stages - 1;
  for (int i = 0; i < min(ahead, end - begin); ++i)
    weight_copies.copy(product, ring + i * stage_units, begin + i);
  wait_for_previous_kernel();
  let_next_kernel_start();
  for (int i = 0; i < ahead; ++i) {
    if (begin + i < end) copy_x(begin + i, i);
    commit_copies();
  }

  TileSums<Sum, T> sums;
  // Of each part, where others of the block add them; else of all parts so far.
  TileSums<Sum, T> totals[T::kSplits > 1 ? T::kParts : 1] = {};
  int stage = 0, next_stage = ahead;
#pragma unroll(T::kSplits > 1 ? T::kParts : 1)
  for (int part = 0; part < T::kParts; ++part) {
    for_each_sum(sums, [](Sum& sum, int) { sum = 0; });
    const int part_end = first_int4_chunk(split * T::kParts + part + 1, product.chunks);
    for (int chunk = first_int4_chunk(split * T::kParts + part, product.chunks); chunk < part_end;
         ++chunk) {
      wait_for_copies(work.stages - 2);
      sync_threads<T::kGroup>(1 + split);
      if (chunk + ahead < end) {
        weight_copies.copy(product, ring + next_stage * stage_units, chunk + ahead);
        copy_x(chunk + ahead, next_stage);
      }
      commit_copies();
      next_stage = next_stage + 1 == work.stages ? 0 : next_stage + 1;
      const uint4* weights = ring + stage * stage_units;
      multiply_chunk<Format, T>(product, weights, weights + weight_units, warp_out, warp_token,
                                lane, sums);
      stage = stage + 1 == work.stages ? 0 : stage + 1;
    }
    auto& to = totals[T::kSplits > 1 ? part : 0];
    const auto* from = &sums[0][0][0];
    for_each_sum(to, [&](Sum& total, int i) { total += from[i]; });
  }

  __syncthreads();
  if constexpr (T::kSplits > 1) {
    // [part][sum][thread of a group]
    auto* exchange = reinterpret_cast<Sum*>(memory);
    constexpr int kPartSums = T::kOuts * T::kTokens;
    if (split > 0) {
#pragma unroll
      for (int part = 0; part < T::kParts; ++part) {
        Sum* to = exchange + ((split - 1) * T::kParts + part) * kPartSums + thread;
        for_each_sum(totals[part], [&](Sum& sum, int i) { to[i * T::kGroup] = sum; });
      }
    } else {
#pragma unroll
      for (int part = 1; part < T::kParts; ++part) {
        const auto* from = &totals[part][0][0][0];
        for_each_sum(totals[0], [&](Sum& total, int i) { total += from[i]; });
      }
    }
    __syncthreads();
    if (split > 0) return;
    for (int part = 0; part < kInt4Parts - T::kParts; ++part) {
      const Sum* from = exchange + part * kPartSums + thread;
      for_each_sum(totals[0], [&](Sum& total, int i) { total += from[i * T::kGroup]; });
    }
    sync_threads<T::kGroup>(1);
  }

  auto* staging = reinterpret_cast<__nv_bfloat16*>(memory);
  const auto finish = [&](auto store) {
    finish_sums<Format, T>(product, totals[0], token0, out0, warp_token, warp_out, lane, store);
  };
  if (product.y.f32) {
    finish([&](int token, int column, float value) {
      if (token0 + token < product.rows && out0 + column < product.out)
        static_cast<float*>(product.y.data)[(token0 + token) * product.y.stride + out0 + column] =
            value;
    });
    return;
  }
  // Through shared memory, so that rows of y are written in whole pieces.
  finish([&](int token, int column, float value) {
    staging[token * T::kPitch + column] = __float2bfloat16_rn(value);
  });
  sync_threads<T::kGroup>(1);
  store_staged<T>(product, staging, token0, out0, thread);
}

template <class Format, class T>
void launch_tiles(const Product& product, cudaStream_t stream) {
  const auto kernel = portable_tile_kernel<Format, T>;
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
  // The registers of a processor are enough for two blocks of 128 threads.
  const bool two = tiles > processors() && T::kThreads <= 128;
  const int bytes = (two ? kHalfBlockBytes : kBlockBytes) / T::kSplits;
  work.stages = std::clamp(bytes / work.stage_bytes, 2, kMostPending + 2);
  const int memory = std::max({T::kSplits * work.stages * work.stage_bytes, T::kStagingBytes,
                               T::kSplits > 1 ? T::kExchangeBytes : 0});
  launch(kernel, static_cast<unsigned>(tiles), T::kThreads, static_cast<size_t>(memory), stream,
         work);
}

// Picks the tile; it changes no bit of the result.
template <class Format>
void run_tiles(const Product& product, cudaStream_t stream) {
  if (product.rows <= 64)
    return launch_tiles<Format, Tile<1, 4, 4, 1, Format::kSplits>>(product, stream);
  // The large tile reads shared memory half as often: worth some idle processors.
  const int large = div_up(product.rows, 128) * div_up(product.out, 128);
  if (5 * large < 3 * processors())
    return launch_tiles<Format, Tile<2, 4, 2, 2, 1>>(product, stream);
  launch_tiles<Format, Tile<2, 8, 4, 2, 1>>(product, stream);
}

}  // namespace narrow::ops::cuda
