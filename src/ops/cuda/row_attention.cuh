// The attention of the kernel of whole layers: rotation and the pieces of attention_piece.cuh.
#pragma once

#include "ops/cuda/attention_piece.cuh"
#include "ops/cuda/row_exchange.cuh"
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

// Of shared memory, for a group.
__host__ __device__ constexpr int row_attention_bytes(int queries, int head_dim) {
  return static_cast<int>(sizeof(Exchange)) + queries * (head_dim + kQueryPad) * 2;
}

// Pieces of all key/value heads are units, which go round the groups of all blocks, the last unit
// to the last block: whose group has a last piece is done last and joins all, and the last blocks
// have the fewest tiles. A group's first of `units`; below zero: it has none.
__device__ inline int first_unit(int units, int group) {
  const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
  return units - 1 - (blocks - 1 - block + group * blocks);
}
// How far before it the group's next unit is.
__device__ inline int unit_stride() { return 4 * static_cast<int>(gridDim.x); }

// What attention needs of the row in every layer.
template <int kHeadDim>
__device__ inline void describe_row(const RowLayers& work, RowShared& shared) {
  const int thread = static_cast<int>(threadIdx.x);
  const int visible = work.batch.single_visible[0];
  const int64_t position = work.batch.positions[0];
  if (thread == 0) {
    shared.visible = visible;
    shared.slot = work.batch.slots[0];
  }
  if (thread < kHeadDim / 2) {
    shared.cosine[thread] = work.cosine[position * (kHeadDim / 2) + thread];
    shared.sine[thread] = work.sine[position * (kHeadDim / 2) + thread];
  }
  if (thread < 4 * kPages) {
    const int kv_heads = work.attention.kv_heads;
    const int unit = first_unit(pieces_of(visible) * kv_heads, thread / kPages);
    const int page = unit / kv_heads * kPages + thread % kPages;
    if (unit >= 0 && page * kPage < visible)
      shared.pages[thread / kPages][thread % kPages] =
          work.batch.block_table[work.batch.single_table[0] + page];
  }
}

// Has the keys and values of each group's first piece on their way to the second-level cache.
template <int kHeadDim, class Kv>
__device__ inline void prefetch_piece(const RowLayers& work, const void* cache, RowShared& shared) {
  const int group = static_cast<int>(threadIdx.x) / kWarpgroup;
  const int page = static_cast<int>(threadIdx.x) % kWarpgroup / 2, kind = threadIdx.x % 2;
  const int kv_heads = work.attention.kv_heads;
  const int unit = first_unit(pieces_of(shared.visible) * kv_heads, group);
  if (unit < 0 || page >= kPages || (unit / kv_heads * kPages + page) * kPage >= shared.visible)
    return;
  constexpr int kNumbers = kPage * kHeadDim;
  const int64_t block = static_cast<int64_t>(shared.pages[group][page]) * 2 + kind;
  prefetch_bytes(static_cast<const Kv*>(cache) + (block * kv_heads + unit % kv_heads) * kNumbers,
                 kNumbers * sizeof(Kv));
}

// A word of a row that the blocks are still writing.
__device__ inline uint32_t wait_for_word(const __nv_bfloat16* from) {
  uint32_t word;
  do word = ask_word(from);
  while (word == kAbsent);
  return word;
}

// A group rotates the queries of its key/value head for itself; the one with the last piece also
// stores the new key and value.
template <int kHeadDim, class Kv>
__device__ inline void attend_row(const RowLayers& work, void* cache, RowTurn turn,
                                  RowShared& shared, uint8_t* scratch) {
  constexpr int kHalf = kHeadDim / 2, kStride = kHeadDim + kQueryPad;
  AttentionLayer layer = work.attention;
  layer.kv = cache;
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
  const int group = static_cast<int>(threadIdx.x) / kWarpgroup;
  const int warp = thread / kWarpSize, lane = thread % kWarpSize;
  const auto sync = [&] { sync_threads(kOfGroup + group, kWarpgroup); };
  const int queries = layer.heads / layer.kv_heads;
  scratch += group * row_attention_bytes(queries, kHeadDim);
  Exchange& exchange = *reinterpret_cast<Exchange*>(scratch);
  auto* rotated = reinterpret_cast<__nv_bfloat16*>(scratch + sizeof(Exchange));
  const int visible = shared.visible;
  const int pieces = pieces_of(visible);
  const int first = first_unit(pieces * layer.kv_heads, group);
#pragma unroll 1
  for (int unit = first; unit >= 0; unit -= unit_stride()) {
    const int kv_head = unit % layer.kv_heads, piece = unit / layer.kv_heads;
    sync();  // all are done with what lies in shared memory
    // Heads are the queries, the key, the value; of a head a thread takes numbers d, d + 1 and
    // those half a head behind them.
    const int heads = queries + (piece == pieces - 1 ? 2 : 0);
#pragma unroll 1
    for (int i = thread; i < heads * (kHalf / 2); i += kWarpgroup) {
      const int head = i / (kHalf / 2), d = i % (kHalf / 2) * 2;
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
        Kv* to = static_cast<Kv*>(layer.kv) +
                 ((static_cast<int64_t>(block) * 2 * layer.kv_heads +
                   (head - queries) * layer.kv_heads + kv_head) *
                      kPage +
                  offset) *
                     kHeadDim +
                 d;
        const float2 a = unpack_bf16(low), b = unpack_bf16(high);
        store_rounded(a.x, to), store_rounded(a.y, to + 1);
        store_rounded(b.x, to + kHalf), store_rounded(b.y, to + kHalf + 1);
      }
    }
    sync();
    const PiecePlace at{unit == first
                            ? shared.pages[group]
                            : work.batch.block_table + work.batch.single_table[0] + piece * kPages,
                        kv_head, piece * kDecodeChunk, min(visible, (piece + 1) * kDecodeChunk)};
    PieceNumbers<kHeadDim, Kv> numbers;
    numbers.load(layer, at, warp, lane);
    const auto query = [&](int head) {
      return rotated + min(head, queries - 1) * kStride + 4 * (lane % 4);
    };
    Weighted<kHeadDim> weighted;
    const PieceSums sums =
        attend_piece(numbers, SharedQueries{query(lane / 4), query(lane / 4 + 8)},
                     layer.scale * kLog2E, at, exchange, warp, lane, sync, weighted);
    float* parts = work.partials +
                   static_cast<int64_t>(kv_head) * work.batch.chunks * partial_floats(kHeadDim);
    __nv_bfloat16* out = work.attended + kv_head * queries * kHeadDim;
    // A single piece is joined too: one division in the code instead of many.
    leave_piece<kHeadDim>(weighted, sums, queries, false, warp, lane,
                          parts + piece * partial_floats(kHeadDim), out);
    if (is_last_piece(&work.counters[kv_head], pieces, thread, shared.last[group], sync))
      join_pieces<kHeadDim>(parts, pieces, queries, thread, kWarpgroup,
                            [&](int i, uint2 words) { tell(out + i, turn, words); });
  }
}

}  // namespace narrow::ops::cuda
