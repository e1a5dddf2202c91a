// What decode and prefill attention share, so that a row has the same bits from both. Keys are
// taken in pieces of kDecodeChunk that begin at multiples of it, whatever the batch. Within a
// piece: scores by mma over the dimensions in one order, weights relative to the piece's own
// largest score, one sum of weights, weighted values by mma page after page. Pieces are then joined
// in their order.
//
// Scores of a piece are products of wgmma where rows are many and of mma elsewhere: in steps of the
// same sixteen inputs both give the same bits (benchmarks/lab/mma_bits.cu).
//
// Weights are powers of two of what scores are in units of log2: a scale, which is above zero,
// comes in with the largest score's subtraction, in one operation.
#pragma once

#include "ops/cuda/device.cuh"
#include "ops/cuda/kernels.h"

namespace narrow::ops::cuda {

inline constexpr int kPage = 16;                     // tokens of a cache block
inline constexpr int kPages = kDecodeChunk / kPage;  // of a piece
inline constexpr int kMmaRows = 16;
inline constexpr float kLog2E = 1.4426950408889634f;

__device__ inline float power_of_two(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// Queries as the A operand: rows g and g + 8 of sixteen; of every step of sixteen dims a lane has
// 4t … 4t + 3.
struct QueryStep {
  uint2 low, high;
};
template <int kHeadDim>
struct Queries {
  uint2 low[kHeadDim / 16], high[kHeadDim / 16];

  __device__ QueryStep step(int s) const { return {low[s], high[s]}; }

  // Null: a row that is not there.
  __device__ void load(const __nv_bfloat16* low_row, const __nv_bfloat16* high_row, int t) {
#pragma unroll
    for (int s = 0; s < kHeadDim / 16; ++s) {
      low[s] = low_row ? *reinterpret_cast<const uint2*>(low_row + 16 * s + 4 * t) : uint2{};
      high[s] = high_row ? *reinterpret_cast<const uint2*>(high_row + 16 * s + 4 * t) : uint2{};
    }
  }
};

// Scores of a page, as mma leaves them: [half][row g: tokens 8 half + 2t, + 1; row g + 8: the
// same].
using PageScores = float[2][4];

// q: Queries, or what else gives a QueryStep for each step. key(half, s): the 8 bytes of token
// 8 half + g, dims 16 s + 4t …
template <int kHeadDim, class Query, class Key>
__device__ inline void page_scores(const Query& q, Key key, PageScores& score) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int c = 0; c < 4; ++c) score[half][c] = 0;
#pragma unroll
    for (int s = 0; s < kHeadDim / 16; ++s) {
      const uint2 k = key(half, s);
      const QueryStep of = q.step(s);
      mma_bf16(score[half], of.low.x, of.high.x, of.low.y, of.high.y, k.x, k.y);
    }
  }
}

// A score, -∞ where the row does not see the token.
__device__ inline float masked(float score, bool visible) { return visible ? score : -INFINITY; }

// The largest score of a piece in units of log2. Never contracted with what follows: all kernels
// must round alike.
__device__ inline float scaled(float largest, float scale) { return __fmul_rn(largest, scale); }

// Largest score of row r (0: g, 1: g + 8) over a page, in every lane of the quad.
__device__ inline float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}
__device__ inline float quad_sum(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}
__device__ inline float largest_of(const PageScores& score, int r) {
  return fmaxf(fmaxf(score[0][2 * r], score[0][2 * r + 1]),
               fmaxf(score[1][2 * r], score[1][2 * r + 1]));
}

// Scores become weights relative to `largest`, which is scaled(); returns this lane's share of
// their sum.
__device__ inline float to_weights(PageScores& score, int r, float largest, float scale) {
  // A row that sees none of the piece: every weight is 2^-∞ = 0.
  const float reference = largest == -INFINITY ? 0 : largest;
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int c = 0; c < 2; ++c)
      score[half][2 * r + c] = power_of_two(fmaf(score[half][2 * r + c], scale, -reference));
  return (score[0][2 * r] + score[0][2 * r + 1]) + (score[1][2 * r] + score[1][2 * r + 1]);
}

// Weights of a page as the A operand.
__device__ inline uint4 pack_weights(const PageScores& w) {
  return make_uint4(pack_bf16(w[0][0], w[0][1]), pack_bf16(w[0][2], w[0][3]),
                    pack_bf16(w[1][0], w[1][1]), pack_bf16(w[1][2], w[1][3]));
}

// Largest score so far and sum of weights relative to it; join() takes a piece in and says by how
// much the values so far and the piece's count.
struct Joined {
  float largest = -INFINITY, sum = 0;

  struct Shares {
    float before, piece;
  };
  __device__ Shares join(float piece_largest, float piece_sum) {
    const float now = fmaxf(largest, piece_largest);
    const Shares shares{power_of_two(largest - now), power_of_two(piece_largest - now)};
    sum = fmaf(piece_sum, shares.piece, sum * shares.before);
    largest = now;
    return shares;
  }
};

// Of row r of a warp that has the scores of a whole piece: they become weights, and the piece is
// taken into `joined`. scale: of scores, to units of log2.
__device__ inline Joined::Shares weigh_row(PageScores (&score)[kPages], int r, float scale,
                                           Joined& joined) {
  float largest = largest_of(score[0], r);
#pragma unroll
  for (int page = 1; page < kPages; ++page) largest = fmaxf(largest, largest_of(score[page], r));
  largest = scaled(quad_max(largest), scale);
  float sum = to_weights(score[0], r, largest, scale);
#pragma unroll
  for (int page = 1; page < kPages; ++page) sum += to_weights(score[page], r, largest, scale);
  return joined.join(largest, quad_sum(sum));
}

// What kPages warps, each with the scores of the page of its number, tell each other of a
// piece.
struct Exchange {
  float largest[kPages][kMmaRows];
  float sum[kPages][2][kWarpSize];
  uint4 weights[kPages][kWarpSize];  // as pack_weights() has them
};
struct PieceSums {
  float largest[2], sum[2];  // of rows g, g + 8; in units of log2
};

// Leaves the weights of all pages in `exchange`. scale: of scores, to units of log2. Called by all
// threads of the kPages warps, of which sync() is a barrier; what they wrote to shared memory
// before is visible behind it.
template <class Sync>
__device__ inline PieceSums weigh_piece(PageScores& score, float scale, Exchange& exchange,
                                        int warp, int lane, Sync sync) {
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float most = quad_max(largest_of(score, r));
    if (t == 0) exchange.largest[warp][g + 8 * r] = most;
  }
  sync();
  PieceSums piece;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float largest = exchange.largest[0][g + 8 * r];
    for (int page = 1; page < kPages; ++page)
      largest = fmaxf(largest, exchange.largest[page][g + 8 * r]);
    piece.largest[r] = scaled(largest, scale);
    exchange.sum[warp][r][lane] = to_weights(score, r, piece.largest[r], scale);
  }
  exchange.weights[warp][lane] = pack_weights(score);
  sync();
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    piece.sum[r] = exchange.sum[0][r][lane];
    for (int page = 1; page < kPages; ++page) piece.sum[r] += exchange.sum[page][r][lane];
    piece.sum[r] = quad_sum(piece.sum[r]);
  }
  return piece;
}

}  // namespace narrow::ops::cuda
