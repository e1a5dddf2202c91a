// One piece of one row's context for one key/value head, and all query heads that share it as the
// rows of one mma tile, by kPages warps: warp w scores page w, then weighs the values of all pages
// in its quarter of the dimensions. The last piece of a row to be done joins them all.
#pragma once

#include "ops/cuda/attention.cuh"
#include "ops/cuda/kv_cache.cuh"

namespace narrow::ops::cuda {

// One piece's result: weighted values [kMmaRows][head_dim], then largest scores and sums
// [kMmaRows].
__host__ __device__ constexpr int64_t partial_floats(int head_dim) {
  return static_cast<int64_t>(kMmaRows) * head_dim + 2 * kMmaRows;
}

// A lane's share of a piece's weighted values: column g of product j is dim kDims g + j of the
// warp's.
template <int kHeadDim>
using Weighted = float[kHeadDim / 32][4];

// numbers: a lane's keys and values. key(half, s): of token 8 half + g of the warp's page, dims
// 16 s + 4t … + 3; value(page, i): of token 2t, 2t + 1, 2t + 8, 2t + 9 of the page, dims kDims g …
// of the warp's, beside each other; of a token from `tokens` on, which the row does not see, any
// finite number in place of a value. scale: in units of log2. sync: a barrier of the warps.
template <int kHeadDim, class Numbers, class Query, class Sync>
__device__ inline PieceSums attend_piece(const Numbers& numbers, const Query& q, float scale,
                                         int tokens, Exchange& exchange, int warp, int lane,
                                         Sync sync, Weighted<kHeadDim>& weighted) {
  constexpr int kDims = kHeadDim / 32;
  const int t = lane % 4;
  PageScores score;
  page_scores<kHeadDim>(
      q,
      [&](int half, int s) {
        const auto key = numbers.key(half, s);
        return make_uint2(key.widened(0), key.widened(1));
      },
      score);
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int c = 0; c < 4; ++c)
      score[half][c] =
          scaled(score[half][c], scale, warp * kPage + 8 * half + 2 * t + (c & 1) < tokens);
  const PieceSums sums = weigh_piece(score, exchange, warp, lane, sync);
#pragma unroll
  for (int j = 0; j < kDims; ++j)
#pragma unroll
    for (int c = 0; c < 4; ++c) weighted[j][c] = 0;
#pragma unroll
  for (int page = 0; page < kPages; ++page) {
    const uint4 w = exchange.weights[page][lane];
    const decltype(numbers.value(0, 0)) value[4] = {numbers.value(page, 0), numbers.value(page, 1),
                                                    numbers.value(page, 2), numbers.value(page, 3)};
#pragma unroll
    for (int d = 0; d < kDims / 2; ++d) {
      uint32_t dims[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) dims[i] = value[i].widened(d);
#pragma unroll
      for (int j = 0; j < 2; ++j)
        mma_bf16(weighted[2 * d + j], w.x, w.y, w.z, w.w, across(dims[0], dims[1], j),
                 across(dims[2], dims[3], j));
    }
  }
  return sums;
}

// Leaves a piece where join_pieces() finds it, or in `out` [queries][kHeadDim] if it is the only
// one.
template <int kHeadDim>
__device__ inline void leave_piece(const Weighted<kHeadDim>& weighted, const PieceSums& sums,
                                   int queries, bool only, int warp, int lane, float* partial,
                                   __nv_bfloat16* out) {
  constexpr int kDims = kHeadDim / 32;
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int head = g + 8 * r;
    if (head >= queries) continue;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int dim = warp * 8 * kDims + kDims * (2 * t + c);
      if (only) {
        // A negative zero becomes positive, as joining would make it.
#pragma unroll
        for (int j = 0; j < kDims; ++j)
          out[head * kHeadDim + dim + j] =
              __float2bfloat16_rn(__fdiv_rn(weighted[j][2 * r + c] + 0.0f, sums.sum[r]));
      } else {
#pragma unroll
        for (int j = 0; j < kDims; j += 2)
          *reinterpret_cast<float2*>(partial + head * kHeadDim + dim + j) =
              make_float2(weighted[j][2 * r + c], weighted[j + 1][2 * r + c]);
      }
    }
    if (!only && warp == 0 && t == 0) {
      partial[kMmaRows * kHeadDim + head] = sums.largest[r];
      partial[kMmaRows * kHeadDim + kMmaRows + head] = sums.sum[r];
    }
  }
}

// Counts a piece that has been left as done; true of the last of its row. What this thread wrote
// before, and others before a barrier that parts them from it, is there for those that read behind
// a barrier after it where it is the last. counter: zero before the first, and after the last
// again.
__device__ inline bool count_piece(uint32_t* counter, int pieces) {
  const auto last = static_cast<uint32_t>(pieces) - 1;
  uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(counter), "r"(last)
               : "memory");
  return before == last;
}

inline constexpr int kJoinedAtOnce = 8;  // pieces

// parts: of all pieces, in order, 16-byte aligned. The result is [queries][kHeadDim]. A thread
// joins four dimensions, which store(first, words) is given, and has kJoinedAtOnce pieces under
// way: one after the other they would cost a round trip to memory each. Their largest scores and
// sums are loaded by one lane each and passed on among kLanes, which are of one head.
template <int kHeadDim, class Store>
__device__ inline void join_pieces(const float* parts, int pieces, int queries, int thread,
                                   int threads, Store store) {
  constexpr int kLanes = 16;
  static_assert(kHeadDim % (4 * kLanes) == 0);
  const int numbers = queries * kHeadDim, lane = thread % kLanes;
  const uint32_t lanes = 0xffffu << (thread % kWarpSize / kLanes * kLanes);
#pragma unroll 1
  for (int i = 4 * thread; i < numbers; i += 4 * threads) {
    const float* of_head = parts + kMmaRows * kHeadDim + i / kHeadDim;
    Joined joined;
    float value[4] = {};
#pragma unroll 1
    for (int begin = 0; begin < pieces; begin += kJoinedAtOnce) {
      const int count = min(kJoinedAtOnce, pieces - begin);
      const float* from = parts + begin * partial_floats(kHeadDim) + i;
      float4 part[kJoinedAtOnce];
#pragma unroll
      for (int c = 0; c < kJoinedAtOnce; ++c)
        if (c < count)
          part[c] = __ldcg(reinterpret_cast<const float4*>(from + c * partial_floats(kHeadDim)));
      const float* of_piece = of_head + (begin + min(lane, count - 1)) * partial_floats(kHeadDim);
      const float largest = __ldcg(of_piece), sum = __ldcg(of_piece + kMmaRows);
#pragma unroll
      for (int c = 0; c < kJoinedAtOnce; ++c) {
        if (c >= count) break;
        const auto shares =
            joined.join(__shfl_sync(lanes, largest, c, kLanes), __shfl_sync(lanes, sum, c, kLanes));
        value[0] = fmaf(part[c].x, shares.piece, value[0] * shares.before);
        value[1] = fmaf(part[c].y, shares.piece, value[1] * shares.before);
        value[2] = fmaf(part[c].z, shares.piece, value[2] * shares.before);
        value[3] = fmaf(part[c].w, shares.piece, value[3] * shares.before);
      }
    }
#pragma unroll
    for (float& v : value) v = __fdiv_rn(v, joined.sum);
    store(i, make_uint2(pack_bf16(value[0], value[1]), pack_bf16(value[2], value[3])));
  }
}

}  // namespace narrow::ops::cuda
