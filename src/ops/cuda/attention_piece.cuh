// One piece of one row's context for one key/value head, and all query heads that share it as the
// rows of one mma tile, by kPages warps: warp w scores page w, then weighs the values of all pages
// in its quarter of the dimensions.
#pragma once

#include "ops/cuda/attention.cuh"
#include "ops/cuda/kv_cache.cuh"

namespace narrow::ops::cuda {

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
      score[half][c] = masked(score[half][c], warp * kPage + 8 * half + 2 * t + (c & 1) < tokens);
  const PieceSums sums = weigh_piece(score, scale, exchange, warp, lane, sync);
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

}  // namespace narrow::ops::cuda
