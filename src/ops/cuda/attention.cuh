// What decode and prefill attention share, so that a row has the same bits from both. Keys are
// taken in pieces of kDecodeChunk that begin at multiples of it, whatever the batch. Within a
// piece: scores by mma over the dimensions in one order, weights relative to the piece's own
// reference, one sum of weights, weighted values by mma page after page. Pieces are then joined in
// their order.
//
// Scores of a piece are products of wgmma where rows are many and of mma elsewhere: in steps of the
// same sixteen inputs both give the same bits (benchmarks/lab/mma_bits.cu).
//
// Weights are powers of two of what scores are in units of log2: a scale, which is above zero,
// comes in with the subtraction of the reference, in one operation. The reference is the largest
// score rounded to a multiple of eight, so weights go up to 2^4. Pieces then mostly have the same
// one, and joining need multiply nothing.
#pragma once

#include "ops/cuda/device.cuh"
#include "ops/cuda/kernels.h"

namespace narrow::ops::cuda {

inline constexpr int kPage = 16;                     // tokens of a cache block
inline constexpr int kPages = kDecodeChunk / kPage;  // of a piece
inline constexpr int kMmaRows = 16;
inline constexpr float kLog2E = 1.4426950408889634f;

// Queries as the A operand: rows g and g + 8 of sixteen; of every step of sixteen dims a lane has
// 4t … 4t + 3.
struct QueryStep {
  uint2 low, high;
};
template <int kHeadDim>
class Queries {
 public:
  __device__ QueryStep step(int s) const {
    const uint4& of = step_[s];
    return {{of.x, of.z}, {of.y, of.w}};
  }

  // Rows in global memory. Null: a row that is not there.
  __device__ void load(const __nv_bfloat16* low_row, const __nv_bfloat16* high_row, int t) {
#pragma unroll
    for (int s = 0; s < kHeadDim / 16; ++s) {
      step_[s] = {};
      if (low_row) load_apart(low_row + 16 * s + 4 * t, step_[s].x, step_[s].z);
      if (high_row) load_apart(high_row + 16 * s + 4 * t, step_[s].y, step_[s].w);
    }
  }

 private:
  uint4 step_[kHeadDim / 16];  // in the order of mma's operand
};

// Scores of a page, as mma leaves them: [half][row g: tokens 8 half + 2t, + 1; row g + 8: the
// same].
using PageScores = float[2][4];

// q: Queries, or what else gives a QueryStep for each step. key(half, s): the 8 bytes of token
// 8 half + g, dims 16 s + 4t … beside(s): what is to be done while products of step s are on their
// way.
template <int kHeadDim, class Query, class Key, class Beside>
__device__ inline void page_scores(const Query& q, Key key, PageScores& score, Beside beside) {
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int c = 0; c < 4; ++c) score[half][c] = 0;
#pragma unroll
  for (int s = 0; s < kHeadDim / 16; ++s) {
    const QueryStep of = q.step(s);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint2 k = key(half, s);
      mma_bf16(score[half], of.low.x, of.high.x, of.low.y, of.high.y, k.x, k.y);
    }
    beside(s);
  }
}
template <int kHeadDim, class Query, class Key>
__device__ inline void page_scores(const Query& q, Key key, PageScores& score) {
  page_scores<kHeadDim>(q, key, score, [](int) {});
}

// A score, -∞ where the row does not see the token.
__device__ inline float masked(float score, bool visible) { return visible ? score : -INFINITY; }

// The reference of a piece, in units of log2, by its largest score; -∞ stays what it is. Adding
// kEights leaves a multiple of eight of what is below 2^25; beyond 2^30, which no score comes near,
// it is too coarse for weights to be finite. Never contracted: all kernels must round alike.
__device__ inline float reference_of(float largest, float scale) {
  constexpr float kEights = 0x1.8p26f;
  return __fadd_rn(__fadd_rn(__fmul_rn(largest, scale), kEights), -kEights);
}

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

// Scores become weights relative to `reference`.
__device__ inline void to_weights(PageScores& score, int r, float reference, float scale) {
  // A row that sees none of the piece: every weight is 2^-∞ = 0.
  if (reference == -INFINITY) reference = 0;
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int c = 0; c < 2; ++c)
      score[half][2 * r + c] = power_of_two(fmaf(score[half][2 * r + c], scale, -reference));
}
// This lane's share of the sum of a page's weights.
__device__ inline float sum_of(const PageScores& weight, int r) {
  return (weight[0][2 * r] + weight[0][2 * r + 1]) + (weight[1][2 * r] + weight[1][2 * r + 1]);
}

// Weights of a page as the A operand.
__device__ inline uint4 pack_weights(const PageScores& w) {
  return make_uint4(pack_bf16(w[0][0], w[0][1]), pack_bf16(w[0][2], w[0][3]),
                    pack_bf16(w[1][0], w[1][1]), pack_bf16(w[1][2], w[1][3]));
}

// The reference so far and the sum of weights relative to it; join() takes a piece in and says by
// how much the values so far and the piece's count.
struct Joined {
  float reference = -INFINITY, sum = 0;

  struct Shares {
    float before, piece;
  };
  __device__ Shares join_reference(float of_piece) {
    const float now = fmaxf(reference, of_piece);
    const Shares shares{power_of_two(reference - now), power_of_two(of_piece - now)};
    reference = now;
    return shares;
  }
  __device__ void join_sum(float of_piece, const Shares& shares) {
    sum = fmaf(of_piece, shares.piece, sum * shares.before);
  }
  __device__ Shares join(float of_reference, float of_sum) {
    const Shares shares = join_reference(of_reference);
    join_sum(of_sum, shares);
    return shares;
  }
};

// Of row r of a warp that has the scores of a whole piece: they become weights, whose reference is
// taken into `joined`. scale: of scores, to units of log2.
__device__ inline Joined::Shares weigh_row(PageScores (&score)[kPages], int r, float scale,
                                           Joined& joined) {
  float largest = largest_of(score[0], r);
#pragma unroll
  for (int page = 1; page < kPages; ++page) largest = fmaxf(largest, largest_of(score[page], r));
  const float reference = reference_of(quad_max(largest), scale);
#pragma unroll
  for (int page = 0; page < kPages; ++page) to_weights(score[page], r, reference, scale);
  return joined.join_reference(reference);
}
// Takes the sum of those weights into `joined`.
__device__ inline void add_weights(const PageScores (&weight)[kPages], int r,
                                   const Joined::Shares& shares, Joined& joined) {
  float sum = sum_of(weight[0], r);
#pragma unroll
  for (int page = 1; page < kPages; ++page) sum += sum_of(weight[page], r);
  joined.join_sum(quad_sum(sum), shares);
}

// What kPages warps, each with the scores of the page of its number, tell each other of a
// piece.
struct Exchange {
  float largest[kPages][kMmaRows];
  float sum[kPages][2][kWarpSize];
  uint4 weights[kPages][kWarpSize];  // as pack_weights() has them
};
struct PieceSums {
  float reference[2], sum[2];  // of rows g, g + 8
};

// Leaves the weights of all pages in `exchange`. scale: of scores, to units of log2. Called by all
// threads of the kPages warps, of which sync() is a barrier; what they wrote to shared memory
// before is visible behind it. kHalves: 1 if rows g + 8 are none; then nothing is said of them.
template <int kHalves = 2, class Sync>
__device__ inline PieceSums weigh_piece(PageScores& score, float scale, Exchange& exchange,
                                        int warp, int lane, Sync sync) {
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int r = 0; r < kHalves; ++r) {
    const float most = quad_max(largest_of(score, r));
    if (t == 0) exchange.largest[warp][g + 8 * r] = most;
  }
  sync();
  PieceSums piece;
#pragma unroll
  for (int r = 0; r < kHalves; ++r) {
    float largest = exchange.largest[0][g + 8 * r];
    for (int page = 1; page < kPages; ++page)
      largest = fmaxf(largest, exchange.largest[page][g + 8 * r]);
    piece.reference[r] = reference_of(largest, scale);
    to_weights(score, r, piece.reference[r], scale);
    exchange.sum[warp][r][lane] = sum_of(score, r);
  }
  exchange.weights[warp][lane] = pack_weights(score);
  sync();
#pragma unroll
  for (int r = 0; r < kHalves; ++r) {
    piece.sum[r] = exchange.sum[0][r][lane];
    for (int page = 1; page < kPages; ++page) piece.sum[r] += exchange.sum[page][r][lane];
    piece.sum[r] = quad_sum(piece.sum[r]);
  }
  return piece;
}

}  // namespace narrow::ops::cuda
