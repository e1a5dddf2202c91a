// What the parts of the kernel of whole layers (row_layers.cuh) have in common: its formats, what
// the threads of a block share and how they wait for each other, and which weights fall to a block.
#pragma once

#include <type_traits>

#include "ops/cuda/attention.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/row_instructions.cuh"
#include "ops/cuda/row_layers.h"

namespace narrow::ops::cuda {

inline constexpr int kRowConsumers = kRowGroups * kWarpgroup;
inline constexpr int kRowThreads = kRowConsumers + kWarpgroup;

// A format: how many arrivals say that a stage has been read (a multiple of a group's warps), how
// large it is, how activations are stored.
struct RowBf16 {
  static constexpr int kReaders = 4, kStage = kRowStageBytes;
  static constexpr Codes kCodes = Codes::none;
};
struct RowInt8 {
  static constexpr int kReaders = 4, kStage = kRowStageBytes;
  static constexpr Codes kCodes = Codes::int8;
};
struct RowFp8 {
  static constexpr int kReaders = 4, kStage = kRowStageBytes;
  static constexpr Codes kCodes = Codes::fp8;
};
template <bool kWithOffsets>
struct RowInt4 {
  static constexpr bool kOffsets = kWithOffsets;
  static constexpr int kReaders = kInt4Parts, kStage = kInt4RowStageBytes;
  static constexpr Codes kCodes = Codes::none;
};
template <class Format>
inline constexpr bool kIsInt4 =
    std::is_same_v<Format, RowInt4<false>> || std::is_same_v<Format, RowInt4<true>>;
template <class Format>
inline constexpr bool kIsFp8 = std::is_same_v<Format, RowFp8>;
inline constexpr int kFillers = 2;  // threads that fill a stage together

// Pieces of attention fall to the blocks in turns, the last pieces of all key/value heads to the
// last blocks, which have the fewest tiles and are done last for it. All of a block's are of one
// head.
struct BlockPieces {
  int kv_head, last, stride;
  __device__ BlockPieces(int pieces, int kv_heads) {
    const int blocks = static_cast<int>(gridDim.x);
    const int from_last = blocks - 1 - static_cast<int>(blockIdx.x);
    kv_head = kv_heads - 1 - from_last % kv_heads;
    stride = blocks / kv_heads;
    last = from_last / kv_heads < stride ? pieces - 1 - from_last / kv_heads : -1;
  }
  BlockPieces() = default;
  // The block's i-th; below zero: it has none.
  __device__ int piece(int i) const { return last - i * stride; }
};

struct RowShared {
  uint64_t full[kMostRowStages], empty[kMostRowStages];  // of the ring's stages
  int begun;                                             // products, whose input has been there
  int stages;                                            // as RowLayers has it
  int tiles[kRowProducts + 1];                   // of the block, of each product and the head
  float squares[kWarpSize], largest[kWarpSize];  // of the warps' numbers
  float row_scale;                               // of a row of codes
  uint4 zeros;
  union {
    float parts[kInt4Rounds][kInt4Tiles][kInt4Parts][16];  // sums of 4-bit products
    int2 shares[kRoundPlaces][2 * kRowBeside][8];          // sums of tiles' sharers, of int8
  };
  float up[2][kRowBeside][8];  // of a round's tiles
  int visible, slot;           // of the row, as DeviceBatch has them
  int queries;                 // of a key/value head
  BlockPieces pieces;          // of attention
  float cosine[64], sine[64];  // of the row's position
  // Of this layer and the next.
  const float* column_scale[2][kRowProducts];
  const float* bias[2][kRowProducts];
  const float* norm[2][2];
};
static_assert(sizeof(RowShared) <= kRowStaticBytes);

// Named barriers, + number: of a group, of the two warps of a tile of gate and up, of the groups
// that share a tile (int8), of a round (4-bit weights).
enum RowBarrier { kAllConsumers = 1, kOfGroup = 2, kOfPair = 6, kOfTile = 10, kOfRound = 10 };
__device__ inline void sync_consumers() { sync_threads(kAllConsumers, kRowConsumers); }
// One warp waits for what all have left of a round; the others go on. place: of the round's sums.
// Who is so many rounds ahead that it comes again would have to be ahead by more than the ring.
__device__ inline void leave_round(int place) { leave_threads(kOfRound + place, kRowConsumers); }
__device__ inline void wait_for_round(int place) { sync_threads(kOfRound + place, kRowConsumers); }

// Tells the stream that the input of the product of this number, from 1, is there.
__device__ inline void begin_product(RowShared& shared, int product) {
  if (threadIdx.x == 0) *const_cast<volatile int*>(&shared.begun) = product;
}

// A place in the ring.
struct RingPlace {
  int slot = 0;
  uint32_t parity = 0;
  __device__ void advance(int count, int stages) {
    slot += count;
#pragma unroll 1
    for (; slot >= stages; slot -= stages) parity ^= 1;
  }
  // By no more than the ring is long.
  __device__ void next(int count, int stages) {
    slot += count;
    const bool around = slot >= stages;
    if (around) slot -= stages;
    parity ^= around;
  }
};

// Units of work fall to the blocks in turns, the last unit to the last block, which has the fewest
// tiles. The block's i-th of `units`; below zero: it has none.
__device__ inline int unit_of_block(int units, int i) {
  const int blocks = static_cast<int>(gridDim.x);
  const int from_last = blocks - 1 - static_cast<int>(blockIdx.x);
  return units - 1 - (from_last + i * blocks);
}

// Of all tiles of a product every gridDim.x-th falls to this block. Of 4-bit weights a tile of gate
// and one of up are neighbours. product: kRowProducts is the head.
template <class Format>
__device__ inline int count_tiles(const RowLayers& work, int product) {
  const int beside = kIsInt4<Format> && product == kGateUp ? 2 : 1;
  const int all = (product == kRowProducts ? work.head : work.product[product]).tiles / beside;
  const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
  return beside * ((all - block + blocks - 1) / blocks);
}
// The i-th of them. In gate_up, where the activation needs both, a tile has eight rows of gate and
// eight of up (else than of 4-bit weights).
struct RowTileRows {
  int first, second;  // of its groups of eight
};
__device__ inline RowTileRows rows_of_tile(int i) {
  const int tile = static_cast<int>(blockIdx.x) + i * static_cast<int>(gridDim.x);
  return {16 * tile, 16 * tile + 8};
}
template <class Format>
__device__ inline RowTileRows rows_of_tile(const RowLayers& work, int product, int i) {
  if (product != kGateUp) return rows_of_tile(i);
  if (kIsInt4<Format>) {
    const RowTileRows rows = rows_of_tile(i / 2);
    const int kind = i % 2 * work.intermediate;
    return {rows.first + kind, rows.second + kind};
  }
  const int row = rows_of_tile(i).first / 2;
  return {row, work.intermediate + row};
}

}  // namespace narrow::ops::cuda
