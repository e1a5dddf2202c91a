// What a block of prefill_attention() takes at a time, and which ones.
#pragma once

#include "ops/cuda/attention.cuh"
#include "ops/cuda/kernels.h"

namespace narrow::ops::cuda {

inline constexpr int kPartRows = 128;

// Up to kPartRows rows of (token, head): of the tokens of a tile and the heads that share a
// key/value head, or some of them.
struct Part {
  int row0, tokens, visible0, table;  // of the tile, as DeviceBatch has them
  int kv_head;
  int first;  // of the part's rows among the tile's and key/value head's

  __device__ int end() const { return visible0 + tokens - 1; }  // tokens that the last row sees
};

// The index of the block's i-th part. Parts stand as tiles do, those that see most first, and every
// other round of blocks goes backward: so all have about as much to do.
__device__ inline int part_at(int i) {
  const int blocks = gridDim.x, block = blockIdx.x;
  return i * blocks + (i % 2 == 0 ? block : blocks - 1 - block);
}

// parts_of_tile: of all key/value heads.
__device__ inline Part part_of(int index, int parts_of_tile, const DeviceBatch& batch,
                               const AttentionLayer& layer) {
  const int tile = index / parts_of_tile, of = index % parts_of_tile;
  return {batch.tile_row[tile],   batch.tile_rows[tile], batch.tile_visible[tile],
          batch.tile_table[tile], of % layer.kv_heads,   of / layer.kv_heads * kPartRows};
}

// Rows of (token, head) of tiles, with `queries` heads that share a key/value head. They are few
// enough for a division by multiplication.
struct PartRows {
  static_assert(kPrefillRows * kMostQueriesPerKv * kMostQueriesPerKv < 1 << 16);
  int queries, per_query;

  __device__ explicit PartRows(int queries_of_head)
      : queries(queries_of_head), per_query(((1 << 16) + queries - 1) / queries) {}
  __device__ int token_of(int row) const { return row * per_query >> 16; }
  // Where the row begins in a matrix of `heads` heads a token; beyond the tile, in its last token.
  template <int kHeadDim>
  __device__ int64_t begin_of(const Part& part, int row, int heads) const {
    const int token = token_of(row), head = row - token * queries;
    return (static_cast<int64_t>(part.row0 + min(token, part.tokens - 1)) * heads +
            part.kv_head * queries + head) *
           kHeadDim;
  }
};

}  // namespace narrow::ops::cuda
