// The attention of the kernel of whole layers: rotation and the pieces of attention_piece.cuh.
#pragma once

#include "ops/cuda/attention_piece.cuh"
#include "ops/cuda/numbers.cuh"
#include "ops/cuda/row_exchange.cuh"
#include "ops/cuda/row_pieces.cuh"
#include "ops/cuda/row_shared.cuh"

namespace narrow::ops::cuda {

inline constexpr int kQueryPad = 16;  // numbers, so that rows of queries lie in other banks

// Rotated queries in shared memory, `stride` numbers apart. In place of rows that are not there, of
// which nothing is kept, the last stands.
struct SharedQueries {
  const __nv_bfloat16 *low, *high;
  __device__ QueryStep step(int s) const {
    return {*reinterpret_cast<const uint2*>(low + 16 * s),
            *reinterpret_cast<const uint2*>(high + 16 * s)};
  }
};

// Of shared memory, for a group that attends and joins.
__host__ __device__ constexpr int row_attention_bytes(int queries, int head_dim) {
  const int attending = static_cast<int>(sizeof(Exchange)) + queries * (head_dim + kQueryPad) * 2;
  return attending > kJoinBytes ? attending : kJoinBytes;
}

// Numbers of shared memory.
template <class Of>
__device__ inline Of load_staged(const void* from) {
  Of numbers;
  if constexpr (sizeof(Of) % 4 == 0) {
    load_here(from, reinterpret_cast<uint32_t(&)[sizeof(Of) / 4]>(numbers));
  } else {
    numbers = *static_cast<const Of*>(from);
  }
  return numbers;
}

// A lane's numbers of a piece that lies in two stages of the ring, page by page.
template <int kHeadDim, class Kv>
struct RingPiece {
  static constexpr int kDims = kHeadDim / 32;
  const Kv *keys, *values;

  __device__ RingPiece(const Kv* of_keys, const Kv* of_values, int warp, int lane)
      : keys(of_keys + (warp * kPage + lane / 4) * kHeadDim + 4 * (lane % 4)),
        values(of_values + 2 * (lane % 4) * kHeadDim + (warp * 8 + lane / 4) * kDims) {}
  __device__ Numbers<Kv, 4> key(int half, int s) const {
    return load_staged<Numbers<Kv, 4>>(keys + 8 * half * kHeadDim + 16 * s);
  }
  __device__ Numbers<Kv, kDims> value(int page, int i) const {
    const int token = page * kPage + (i & 1) + 8 * (i >> 1);
    return load_staged<Numbers<Kv, kDims>>(values + token * kHeadDim);
  }
};

// What attention needs of the row in every layer.
template <int kHeadDim>
__device__ inline void describe_row(const RowLayers& work, RowShared& shared) {
  const int thread = this_thread();
  const int visible = work.batch.single_visible[0];
  const int64_t position = work.batch.positions[0];
  if (thread == 0) {
    const int kv_heads = work.attention.kv_heads;
    shared.visible = visible;
    shared.slot = work.batch.slots[0];
    shared.queries = work.attention.heads / kv_heads;
    shared.pieces = BlockPieces(pieces_of(visible), kv_heads);
  }
  if (thread < kHeadDim / 2) {
    shared.cosine[thread] = work.cosine[position * (kHeadDim / 2) + thread];
    shared.sine[thread] = work.sine[position * (kHeadDim / 2) + thread];
  }
}

// A word of a row that the blocks are still writing.
__device__ inline uint32_t wait_for_word(const __nv_bfloat16* from) {
  uint32_t word;
  do word = ask_word(from);
  while (word == kAbsent);
  return word;
}

// Where a piece lies in the ring.
struct PieceStages {
  RingPlace keys, values;
};

// One piece by one group. The group rotates the queries of the block's key/value head for itself,
// with its first piece; the one with the last piece, which is a first one, also stores the new key
// and value, in the cache and in its stages.
template <class Format, int kHeadDim, class Kv>
__device__ inline void attend_ring_piece(const RowLayers& work, void* cache, RowTurn turn,
                                         uint32_t tag, int piece, bool first, PieceStages stages,
                                         RowShared& shared, uint8_t* ring, uint8_t* scratch) {
  constexpr int kHalf = kHeadDim / 2, kStride = kHeadDim + kQueryPad;
  const AttentionLayer& layer = work.attention;
  const int group = this_thread() / kWarpgroup, thread = this_thread() % kWarpgroup;
  const int warp = thread / kWarpSize, lane = thread % kWarpSize;
  const auto sync = [&] { sync_threads(kOfGroup + group, kWarpgroup); };
  const int queries = shared.queries, kv_head = shared.pieces.kv_head;
  scratch += group * row_attention_bytes(queries, kHeadDim);
  Exchange& exchange = *reinterpret_cast<Exchange*>(scratch);
  auto* rotated = reinterpret_cast<__nv_bfloat16*>(scratch + sizeof(Exchange));
  const int visible = shared.visible, pieces = pieces_of(visible);
  const int tokens = min(visible - piece * kDecodeChunk, kDecodeChunk);
  const bool is_last = piece == pieces - 1;
  Kv* const keys = reinterpret_cast<Kv*>(ring + stages.keys.slot * Format::kStage);
  Kv* const values = reinterpret_cast<Kv*>(ring + stages.values.slot * Format::kStage);
  wait(&shared.full[stages.keys.slot], stages.keys.parity);
  wait(&shared.full[stages.values.slot], stages.values.parity);
  sync();  // all are done with what lies in `scratch`
  if (first) {
    // Values of tokens that the row does not see are weighed with zero and must be numbers.
    constexpr int kUnit = 16 / sizeof(Kv);
#pragma unroll 1
    for (int j = tokens * kHeadDim + thread * kUnit; j < kDecodeChunk * kHeadDim;
         j += kWarpgroup * kUnit)
      *reinterpret_cast<uint4*>(values + j) = uint4{};
    // Heads are the queries, the key, the value; of a head a thread takes numbers d, d + 1 and
    // those half a head behind them.
    const int heads = queries + (is_last ? 2 : 0);
#pragma unroll 1
    for (int j = thread; j < heads * (kHalf / 2); j += kWarpgroup) {
      const int head = j / (kHalf / 2), d = j % (kHalf / 2) * 2;
      const int from = head < queries ? kv_head * queries + head
                                      : layer.heads + (head - queries) * layer.kv_heads + kv_head;
      const __nv_bfloat16* const numbers = work.made[kQkv] + turn.now + from * kHeadDim + d;
      uint32_t low = wait_for_word(numbers), high = wait_for_word(numbers + kHalf);
      if (head <= queries) {
        const float2 a = unpack_bf16(low), b = unpack_bf16(high);
        const float2 even = rotate(a.x, b.x, shared.cosine[d], shared.sine[d]);
        const float2 odd = rotate(a.y, b.y, shared.cosine[d + 1], shared.sine[d + 1]);
        low = pack_bf16(even.x, odd.x);
        high = pack_bf16(even.y, odd.y);
      }
      if (head < queries) {
        *reinterpret_cast<uint32_t*>(rotated + head * kStride + d) = low;
        *reinterpret_cast<uint32_t*>(rotated + head * kStride + d + kHalf) = high;
      } else {
        const int block = shared.slot / kPage, offset = shared.slot % kPage;
        Kv* const cached =
            static_cast<Kv*>(cache) + ((static_cast<int64_t>(block) * 2 * layer.kv_heads +
                                        (head - queries) * layer.kv_heads + kv_head) *
                                           kPage +
                                       offset) *
                                          kHeadDim;
        Kv* const staged = (head == queries ? keys : values) + (tokens - 1) * kHeadDim;
        const float2 a = unpack_bf16(low), b = unpack_bf16(high);
        for (Kv* const to : {cached + d, staged + d}) {
          store_rounded(a.x, to), store_rounded(a.y, to + 1);
          store_rounded(b.x, to + kHalf), store_rounded(b.y, to + kHalf + 1);
        }
      }
    }
    if (is_last) publish_to_async();  // which writes there next
    sync();
  }
  const auto query = [&](int head) {
    return rotated + min(head, queries - 1) * kStride + 4 * (lane % 4);
  };
  Weighted<kHeadDim> weighted;
  const PieceSums sums =
      attend_piece<kHeadDim>(RingPiece<kHeadDim, Kv>(keys, values, warp, lane),
                             SharedQueries{query(lane / 4), query(lane / 4 + 8)},
                             layer.scale * kLog2E, tokens, exchange, warp, lane, sync, weighted);
  tell_piece<kHeadDim>(
      weighted, sums, queries, warp, lane,
      pieces_of_head(work, queries, kv_head) + piece * row_piece_words(queries, kHeadDim), tag);
}

// Lets the stream have a piece's stages, which the warp has done with.
template <class Format>
__device__ inline void release_piece(RowShared& shared, PieceStages of) {
  __syncwarp();
  if (this_thread() % kWarpSize < Format::kReaders / (kWarpgroup / kWarpSize)) {
    arrive(&shared.empty[of.keys.slot]);
    arrive(&shared.empty[of.values.slot]);
  }
}

// Pieces go round the groups that attend; they follow each other in the ring. Slices of the
// result go round all groups, the one that attends nothing first. tag: of the layer.
template <class Format, int kHeadDim, class Kv>
__device__ inline void attend_row(const RowLayers& work, void* cache, RowTurn turn, uint32_t tag,
                                  RowShared& shared, uint8_t* ring, uint8_t* scratch,
                                  RingPlace& at) {
  constexpr int kSlices = kHeadDim / kJoinDims;  // of a query
  const int heads = work.attention.heads, queries = shared.queries;
  const int pieces = pieces_of(shared.visible);
  const int group = this_thread() / kWarpgroup;
#pragma unroll 1
  for (int i = 0, piece; (piece = shared.pieces.piece(i)) >= 0; ++i) {
    PieceStages stages{at, at};
    stages.values.advance(1, work.stages);
    at.advance(2, work.stages);
    if (i % work.attending != group) continue;
    attend_ring_piece<Format, kHeadDim, Kv>(work, cache, turn, tag, piece, i == group, stages,
                                            shared, ring, scratch);
    release_piece<Format>(shared, stages);
  }
#pragma unroll 1
  for (int i = kRowGroups - 1 - group, slice; (slice = unit_of_block(heads * kSlices, i)) >= 0;
       i += kRowGroups) {
    const int head = slice / kSlices, dim = slice % kSlices * kJoinDims;
    const int warp = this_thread() % kWarpgroup / kWarpSize, lane = this_thread() % kWarpSize;
    const TaggedWord* const of_head = pieces_of_head(work, queries, head / queries);
    const int query = head % queries;
    join_slice(
        of_head + query * kHeadDim + dim, of_head + queries * kHeadDim + 2 * query,
        row_piece_words(queries, kHeadDim), pieces, tag,
        reinterpret_cast<float*>(scratch + group * row_attention_bytes(queries, kHeadDim)), warp,
        lane, [&] { sync_threads(kOfGroup + group, kWarpgroup); },
        [&](float value) {
          const float next = __shfl_down_sync(0xffffffffu, value, 1);
          if (lane % 2 == 0)
            tell(work.attended + head * kHeadDim + dim + lane, turn, pack_bf16(value, next));
        });
  }
}

}  // namespace narrow::ops::cuda
