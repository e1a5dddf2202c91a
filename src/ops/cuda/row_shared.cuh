// What the parts of the kernel of whole layers (row_layers.cuh) have in common: its formats, what
// the threads of a block share and how they wait for each other, and which weights fall to a block.
#pragma once

#include <type_traits>

#include "ops/cuda/attention.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/row_layers.h"

namespace narrow::ops::cuda {

inline constexpr int kRowConsumers = 4 * kWarpgroup;
inline constexpr int kRowThreads = kRowConsumers + kWarpgroup;

// A format: how many tiles are multiplied side by side, how many arrivals say that a stage has been
// read, how activations are stored.
struct RowBf16 {
  static constexpr int kBeside = kRowBeside, kReaders = 2, kStage = kRowStageBytes;
  static constexpr Codes kCodes = Codes::none;
};
struct RowInt8 {
  static constexpr int kBeside = kRowBeside, kReaders = 2, kStage = kRowStageBytes;
  static constexpr Codes kCodes = Codes::int8;
};
struct RowFp8 {
  static constexpr int kBeside = kRowBeside, kReaders = 2, kStage = kRowStageBytes;
  static constexpr Codes kCodes = Codes::fp8;
};
struct RowInt4 {
  static constexpr int kBeside = kInt4Beside, kReaders = kInt4Parts, kStage = kInt4RowStageBytes;
  static constexpr Codes kCodes = Codes::none;
};
template <class Format>
inline constexpr bool kIsInt4 = std::is_same_v<Format, RowInt4>;
template <class Format>
inline constexpr bool kIsFp8 = std::is_same_v<Format, RowFp8>;
inline constexpr int kFillers = 2;  // threads that fill a stage together

struct RowShared {
  uint64_t full[kMostRowStages], empty[kMostRowStages];  // of the ring's stages
  float squares[kWarpSize], largest[kWarpSize];          // of the warps' numbers
  float row_scale;                                       // of a row of codes
  uint4 zeros;
  float parts[kInt4Rounds][kInt4Beside][kInt4Parts][16];  // sums of 4-bit products
  float up[2][kRowBeside][8];                             // of a round's tiles
  bool last[4];                                           // of a group's piece
  int visible, slot;                                      // of the row, as DeviceBatch has them
  int pages[4][kPages];                                   // of each group's first piece
  float cosine[64], sine[64];                             // of the row's position
  // Of this layer and the next.
  const float* column_scale[2][kRowProducts];
  const float* bias[2][kRowProducts];
  const float* norm[2][2];
};
static_assert(sizeof(RowShared) <= kRowStaticBytes);

enum RowBarrier { kAllConsumers = 1, kOfGroup = 2, kOfPair = 6, kOfRound = 10 };  // + number
__device__ inline void sync_threads(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ inline void sync_consumers() { sync_threads(kAllConsumers, kRowConsumers); }
// One warp waits for what all have left of a round; the others go on. Who is so many rounds ahead
// that a number comes again would have to be ahead of it by more than the ring.
__device__ inline bool round_is_left(int round, bool waits) {
  const int barrier = kOfRound + round % kInt4Rounds;
  if (waits) {
    sync_threads(barrier, kRowConsumers);
  } else {
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(kRowConsumers) : "memory");
  }
  return waits;
}

// A place in the ring.
struct RingPlace {
  int slot = 0;
  uint32_t parity = 0;
  __device__ void advance(int count, int stages) {
    slot += count;
    if (slot >= stages) {
      const int rounds = slot / stages;
      slot -= rounds * stages;
      parity ^= static_cast<uint32_t>(rounds & 1);
    }
  }
};

// Of `tiles` tiles, those that fall to this block: every gridDim.x-th.
__device__ inline int tiles_of_block(int tiles) {
  return (tiles - static_cast<int>(blockIdx.x) + static_cast<int>(gridDim.x) - 1) /
         static_cast<int>(gridDim.x);
}
// Of 4-bit weights a tile of gate and one of up are neighbours.
template <class Format>
__device__ inline int tiles_of_block(const RowLayers& work, int product) {
  const int beside = kIsInt4<Format> && product == kGateUp ? 2 : 1;
  return beside * tiles_of_block(work.product[product].tiles / beside);
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
