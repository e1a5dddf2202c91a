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

// 8 or 4 bytes past L1: a kernel of whole layers has written some of them itself.
__device__ inline void load_key(const __nv_bfloat16* from, Numbers<__nv_bfloat16, 4>& to) {
  asm volatile("ld.global.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2];"
               : "=r"(to.pair[0]), "=r"(to.pair[1])
               : "l"(from));
}
__device__ inline void load_key(const e4m3_t* from, Numbers<e4m3_t, 4>& to) {
  // Half a sector of memory: the next step's codes are the other half.
  const uint32_t four = *reinterpret_cast<const uint32_t*>(from);
  to.pair[0] = static_cast<uint16_t>(four), to.pair[1] = static_cast<uint16_t>(four >> 16);
}

struct PiecePlace {
  const int32_t* table;  // blocks of the piece's pages
  int kv_head;
  int first, end;  // tokens that the row sees, at least one; what lies beyond the end may be
                   // another sequence's, or no number at all: the last token is read in its place
};

// A lane's numbers of a piece, all loaded before the first is used.
template <int kHeadDim, class Kv>
struct PieceNumbers {
  static constexpr int kDims = kHeadDim / 32;  // of values of a lane, beside each other
  static constexpr int kWarpDims = 8 * kDims;
  Numbers<Kv, 4> keys[2][kHeadDim / 16];  // of the warp's page
  Numbers<Kv, kDims> values[kPages][4];   // tokens 2t, 2t + 1, 2t + 8, 2t + 9

  __device__ void load(const AttentionLayer& layer, const PiecePlace& at, int warp, int lane) {
    const int g = lane / 4, t = lane % 4;
    constexpr int64_t kPageNumbers = static_cast<int64_t>(kPage) * kHeadDim;
    const int last = at.end - at.first - 1, last_page = last / kPage;
    const auto keys_of = [&](int page) {
      return static_cast<const Kv*>(layer.kv) +
             (static_cast<int64_t>(at.table[page]) * 2 * layer.kv_heads + at.kv_head) *
                 kPageNumbers;
    };
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int token = min(warp * kPage + 8 * half + g, last);
      const Kv* from = keys_of(token / kPage) + token % kPage * kHeadDim + 4 * t;
#pragma unroll
      for (int s = 0; s < kHeadDim / 16; ++s) load_key(from + 16 * s, keys[half][s]);
    }
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      const Kv* from = keys_of(min(page, last_page)) + layer.kv_heads * kPageNumbers +
                       warp * kWarpDims + kDims * g;
      const int most = page < last_page ? kPage - 1 : last % kPage;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int token = min(2 * t + (i & 1) + 8 * (i >> 1), most);
        values[page][i] = *reinterpret_cast<const Numbers<Kv, kDims>*>(from + token * kHeadDim);
      }
    }
  }
};

// A lane's share of a piece's weighted values: column g of product j is dim kDims g + j of the
// warp's.
template <int kHeadDim>
using Weighted = float[kHeadDim / 32][4];

// scale: in units of log2. sync: a barrier of the warps.
template <int kHeadDim, class Kv, class Query, class Sync>
__device__ inline PieceSums attend_piece(const PieceNumbers<kHeadDim, Kv>& numbers, const Query& q,
                                         float scale, const PiecePlace& at, Exchange& exchange,
                                         int warp, int lane, Sync sync,
                                         Weighted<kHeadDim>& weighted) {
  constexpr int kDims = kHeadDim / 32;
  const int t = lane % 4;
  PageScores score;
  page_scores<kHeadDim>(
      q,
      [&](int half, int s) {
        return make_uint2(numbers.keys[half][s].widened(0), numbers.keys[half][s].widened(1));
      },
      score);
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int c = 0; c < 4; ++c)
      score[half][c] = scaled(score[half][c], scale,
                              at.first + warp * kPage + 8 * half + 2 * t + (c & 1) < at.end);
  const PieceSums sums = weigh_piece(score, exchange, warp, lane, sync);
#pragma unroll
  for (int j = 0; j < kDims; ++j)
#pragma unroll
    for (int c = 0; c < 4; ++c) weighted[j][c] = 0;
#pragma unroll
  for (int page = 0; page < kPages; ++page) {
    const uint4 w = exchange.weights[page][lane];
#pragma unroll
    for (int d = 0; d < kDims / 2; ++d) {
      uint32_t dims[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) dims[i] = numbers.values[page][i].widened(d);
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

// Whether the threads, which sync() joins and of which `thread` is 0 … , have left the last piece
// of a row to be done. counter: zero before the first, and after the last again.
template <class Sync>
__device__ inline bool is_last_piece(uint32_t* counter, int pieces, int thread, bool& shared,
                                     Sync sync) {
  sync();
  if (thread == 0) {
    // For all threads: what they wrote before the barrier is before this, what they read behind the
    // next one after it. Counts on from zero behind the last piece.
    const auto last = static_cast<uint32_t>(pieces) - 1;
    uint32_t before;
    asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
                 : "=r"(before)
                 : "l"(counter), "r"(last)
                 : "memory");
    shared = before == last;
  }
  sync();
  return shared;
}

// parts: of all pieces, in order, 16-byte aligned. The result is [queries][kHeadDim]. A thread
// joins four dimensions, which store(first, words) is given, and has eight pieces under way: one
// after the other they would cost a round trip to memory each.
template <int kHeadDim, class Store>
__device__ inline void join_pieces(const float* parts, int pieces, int queries, int thread,
                                   int threads, Store store) {
  for (int i = 4 * thread; i < queries * kHeadDim; i += 4 * threads) {
    const float* of_head = parts + kMmaRows * kHeadDim + i / kHeadDim;
    Joined joined;
    float value[4] = {};
#pragma unroll 8
    for (int c = 0; c < pieces; ++c) {
      const int64_t at = c * partial_floats(kHeadDim);
      const float4 part = __ldcg(reinterpret_cast<const float4*>(parts + at + i));
      const auto shares = joined.join(__ldcg(of_head + at), __ldcg(of_head + at + kMmaRows));
      value[0] = fmaf(part.x, shares.piece, value[0] * shares.before);
      value[1] = fmaf(part.y, shares.piece, value[1] * shares.before);
      value[2] = fmaf(part.z, shares.piece, value[2] * shares.before);
      value[3] = fmaf(part.w, shares.piece, value[3] * shares.before);
    }
#pragma unroll
    for (float& v : value) v = __fdiv_rn(v, joined.sum);
    store(i, make_uint2(pack_bf16(value[0], value[1]), pack_bf16(value[2], value[3])));
  }
}

}  // namespace narrow::ops::cuda
