// How the blocks of the kernel of whole layers (row_layers.cuh) tell each other pieces of
// attention, and join them. As with rows (row_exchange.cuh) there is no barrier: a number and a tag
// are one word of 64 bits, which is there once its tag is this layer's. So who joins has the
// numbers one trip to the second-level cache after they were written, and who attends goes on
// meanwhile.
//
// A place serves all layers. Who writes a piece has seen the layer's qkv, and by way of it (every
// block has tiles of gate_up) something from every block behind all that it joined of the layer
// before. Tags come again after 2^32 layers, days of steps; only a piece that no step has written
// in all that time could be taken for another.
#pragma once

#include "ops/cuda/attention_piece.cuh"
#include "ops/cuda/numbers.cuh"
#include "ops/cuda/row_layers.h"
#include "ops/cuda/row_shared.cuh"

namespace narrow::ops::cuda {

// A number in the lower half.
using TaggedWord = uint64_t;

__device__ inline TaggedWord tagged(float number, uint32_t tag) {
  return static_cast<TaggedWord>(tag) << 32 | __float_as_uint(number);
}
__device__ inline bool has_tag(TaggedWord word, uint32_t tag) {
  return static_cast<uint32_t>(word >> 32) == tag;
}
__device__ inline float number_of(TaggedWord word) {
  return __uint_as_float(static_cast<uint32_t>(word));
}

// to: 16-byte aligned.
__device__ inline void tell_tagged(TaggedWord* to, float first, float second, uint32_t tag) {
  tell_words(to, tagged(first, tag), tagged(second, tag));
}
__device__ inline TaggedWord ask_tagged(const TaggedWord* from) {
  TaggedWord word;
  ask_words(from, word);
  return word;
}
__device__ inline void ask_tagged(const TaggedWord* from, TaggedWord (&words)[2]) {
  ask_words(from, words);
}

// Of a key/value head: words of all its pieces. Of a piece: weighted values [queries][head_dim],
// then of each query the reference and the sum of weights.
__device__ inline TaggedWord* pieces_of_head(const RowLayers& work, int queries, int kv_head) {
  return work.pieces + static_cast<int64_t>(kv_head) * work.batch.chunks *
                           row_piece_words(queries, work.attention.head_dim);
}

// to: of the piece. Called by the kPages warps that attended it.
template <int kHeadDim>
__device__ inline void tell_piece(const Weighted<kHeadDim>& weighted, const PieceSums& sums,
                                  int queries, int warp, int lane, TaggedWord* to, uint32_t tag) {
  constexpr int kDims = kHeadDim / 32;
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int query = g + 8 * r;
    if (query >= queries) continue;
#pragma unroll
    for (int c = 0; c < 2; ++c)
#pragma unroll
      for (int j = 0; j < kDims; j += 2)
        tell_tagged(to + query * kHeadDim + warp * 8 * kDims + kDims * (2 * t + c) + j,
                    weighted[j][2 * r + c], weighted[j + 1][2 * r + c], tag);
    if (warp == 0 && t == 0)
      tell_tagged(to + queries * kHeadDim + 2 * query, sums.reference[r], sums.sum[r], tag);
  }
}

// The pieces of one query are joined in slices of as many dimensions as a warp has lanes, by a
// group of threads: its warps bring pieces, as many as a warp has lanes at a time, and one adds
// them up.
inline constexpr int kJoinDims = kWarpSize, kJoinPieces = kWarpSize;
// Of shared memory, for a group.
inline constexpr int kJoinBytes = kJoinPieces * kJoinDims * static_cast<int>(sizeof(float));

// of_slice: the slice's values of the first piece; of_query: its reference. sync: a barrier of
// the group. store(value) is given a lane's dimension, by the first warp.
template <class Sync, class Store>
__device__ inline void join_slice(const TaggedWord* of_slice, const TaggedWord* of_query,
                                  int64_t stride, int pieces, uint32_t tag, float* scratch,
                                  int warp, int lane, Sync sync, Store store) {
  constexpr int kWarps = kWarpgroup / kWarpSize, kMine = kJoinPieces / kWarps;
  constexpr int kFew = 2 * kWarps;  // pieces whose values may be asked for again and again
  const auto ask_sums = [&](int begin, TaggedWord(&words)[2]) {
    ask_tagged(of_query + min(begin + lane, pieces - 1) * stride, words);
  };
  float before = -INFINITY, sum = 0, value = 0;  // before: the reference
  TaggedWord next[2];
  ask_sums(0, next);
#pragma unroll 1
  for (int begin = 0; begin < pieces; begin += kJoinPieces) {
    const int count = min(kJoinPieces, pieces - begin);
    TaggedWord words[kMine], of_piece[2] = {next[0], next[1]};
#pragma unroll
    for (int i = 0; i < kMine; ++i) words[i] = tagged(0, tag - 1);
    for (bool whole = false; !whole;) {
      whole = __all_sync(0xffffffffu, has_tag(of_piece[0], tag) && has_tag(of_piece[1], tag));
      if (!whole) ask_sums(begin, of_piece);
      if (!whole && pieces > kFew) continue;
      bool all = true;
#pragma unroll
      for (int i = 0; i < kMine; ++i)
        if (warp + i * kWarps < count && !has_tag(words[i], tag))
          words[i] = ask_tagged(of_slice + (begin + warp + i * kWarps) * stride + lane);
      ask_sums(begin + kJoinPieces, next);
#pragma unroll
      for (int i = 0; i < kMine; ++i)
        all = all && (warp + i * kWarps >= count || has_tag(words[i], tag));
      whole = __all_sync(0xffffffffu, all) && whole;
    }
    sync();  // the first warp has added up what lies in `scratch`
#pragma unroll
    for (int i = 0; i < kMine; ++i)
      scratch[(warp + i * kWarps) * kJoinDims + lane] = number_of(words[i]);
    sync();
    if (warp > 0) continue;
    // As Joined has it: of all these pieces, one a lane, the reference up to it.
    const float of_own = lane < count ? number_of(of_piece[0]) : -INFINITY;
    float now = fmaxf(before, of_own);
#pragma unroll
    for (int back = 1; back < kWarpSize; back *= 2) {
      const float other = __shfl_up_sync(0xffffffffu, now, back);
      if (lane >= back) now = fmaxf(now, other);
    }
    const float earlier = __shfl_up_sync(0xffffffffu, now, 1);
    const float share_before = power_of_two((lane == 0 ? before : earlier) - now);
    const float share = power_of_two(of_own - now);
    before = __shfl_sync(0xffffffffu, now, count - 1);
#pragma unroll 4
    for (int i = 0; i < count; ++i) {
      const float kept = __shfl_sync(0xffffffffu, share_before, i);
      const float taken = __shfl_sync(0xffffffffu, share, i);
      sum = fmaf(__shfl_sync(0xffffffffu, number_of(of_piece[1]), i), taken, sum * kept);
      value = fmaf(scratch[i * kJoinDims + lane], taken, value * kept);
    }
  }
  if (warp == 0) store(Quotient(sum)(value));
}

}  // namespace narrow::ops::cuda
