// All layers of a decoder and its head over one row in one kernel (row_layers.cuh): what it is
// given. RowDecoder (row_decoder.h) prepares it.
#pragma once

#include <cuda.h>

#include "ops/cuda/kernels.h"

namespace narrow::ops::cuda {

inline constexpr int kMostRowLayers = 128;
inline constexpr int kRowTurns = 3;

// The products of a layer, in their order.
enum RowProduct { kQkv, kO, kGateUp, kDown, kRowProducts };

// Of one layer, in device memory. Behind the last: the head, as if it were the first product of
// another layer.
struct alignas(128) RowLayer {
  CUtensorMap weights[kRowProducts];
  CUtensorMap scales[kRowProducts];  // of 4-bit weights, and their offsets
  const float* column_scale[kRowProducts];
  const float* bias[kRowProducts];  // or null
  const float* norm[2];             // before qkv, before gate_up
};

// Weights pass through shared memory in stages: 1 KiB of each of sixteen outputs, two groups of
// eight; of 4-bit weights sixteen outputs of kInt4StageChunks chunks, as many of each of some of
// the eight parts, and their scales behind them.
inline constexpr int kRowSegment = 1024;  // bytes of a row
inline constexpr int kRowGroupBytes = 8 * kRowSegment;
inline constexpr int kInt4StageChunks = 16;
inline constexpr int kInt4StageScales = 1 << 10;  // bytes
inline constexpr int kRowStageBytes = 2 * kRowGroupBytes;
inline constexpr int kInt4RowStageBytes = kRowStageBytes + kInt4StageScales;

// Where Int4Product (row_product_int4.cuh) wants what lanes 4 g + t take of the 32 inputs from 32 ·
// block on: the sixteen bytes of x from here + 16 t on. Of two steps of sixteen inputs it is 2 t, 2
// t + 1, 2 t + 8, 2 t + 9 each. Every other block is sixteen bytes further on, so that a warp which
// writes a row writes to all banks.
__host__ __device__ constexpr int int4_place(int block) { return 64 * block + 16 * (block / 2); }
inline constexpr int kInt4ChunkBytes = int4_place(kInt4Inputs / 32);

// Groups of threads that compute, four warps each.
inline constexpr int kRowGroups = 4;

// Tiles that are multiplied side by side, of 4-bit weights kInt4Tiles; how many rounds of them have
// sums at a time, of 4-bit weights and of int8.
inline constexpr int kRowBeside = 4, kInt4Tiles = 2;
inline constexpr int kInt4Rounds = 6, kRoundPlaces = 3;

struct RowLayers {
  struct Product {
    int tiles;  // of sixteen outputs
    int steps;  // stages of a tile, or of half of it
    int in;
    int halved = 0;  // 1: a stage of 4-bit weights has four of the eight parts; 0: all of them
  };
  const RowLayer* table = nullptr;  // [layers + 1]
  int layers = 0, hidden = 0, intermediate = 0;
  float epsilon = 0;
  bool offsets = false;  // 4-bit weights are asymmetric
  Product product[kRowProducts];
  Product head;              // in bf16
  int blocks = 0;            // one on a processor, each with tiles of gate_up
  int stages = 0;            // of the ring
  int under_way = 0;         // of them, at most
  int attending = 0;         // groups that take pieces of attention
  int x_bytes = 0;           // of shared memory: a product's input (then zeros), or attention
  int staged_bytes = 0;      // for a row that becomes codes
  AttentionLayer attention;  // but for its cache
  void* kv[kMostRowLayers] = {};
  const float *cosine = nullptr, *sine = nullptr;
  DeviceBatch batch;                        // of one row
  const __nv_bfloat16* embedded = nullptr;  // [hidden]
  float* logits = nullptr;                  // [vocabulary]
  // What the blocks tell each other (row_exchange.cuh), in the first of kRowTurns turns, which are
  // turn_numbers apart: the outputs of a layer's products (of gate and up what the activation makes
  // of them) and of its attention [heads · head_dim].
  __nv_bfloat16 *made[kRowProducts] = {}, *attended = nullptr;
  int turn_numbers = 0;
  uint32_t* state = nullptr;  // the next step's first turn; how many blocks have ended, zero
  // Pieces of attention (row_pieces.cuh), [kv_heads][batch.chunks][row_piece_words()], and the tag
  // behind which a step's tags begin, which a step advances. Zeros at first; tags are not.
  uint64_t* pieces = nullptr;
  uint32_t* tag = nullptr;
};
// How many chunks of a part a stage of 4-bit weights has.
__host__ __device__ constexpr int int4_chunks_of_stage(const RowLayers::Product& product) {
  return (kInt4StageChunks / kInt4Parts) << product.halved;
}
// Behind it a step's tags may not begin.
inline constexpr uint32_t kLastRowTag = 0xffffffffu - 2 * kMostRowLayers;

// Of a piece of all queries of a key/value head.
__host__ __device__ constexpr int row_piece_words(int queries, int head_dim) {
  return queries * (head_dim + 2);
}

// Shared memory of a block: what is allotted statically, the ring, x_bytes, the residual and
// staged_bytes.
inline constexpr int kRowMemory = 226 << 10, kRowStaticBytes = 8 << 10;
inline constexpr int kMostRowStages = 16, kRowAlignment = 1024;
// Stages that are asked for at a time: more than it takes to keep memory busy is only in the way of
// what is computed. And of a product whose input is not there yet: what blocks tell each other goes
// the same way and is waited for, and who is ahead leaves memory to those who are not.
inline constexpr int kRowUnderWay = 4, kRowAhead = 2;
constexpr int row_memory_bytes(const RowLayers& work, int stage_bytes) {
  return kRowAlignment + work.stages * stage_bytes + work.x_bytes + 2 * work.hidden +
         work.staged_bytes;
}
// Of what attention needs, a part of x_bytes.
int row_attention_bytes(const AttentionLayer& layer);

// One block on each processor, which wait for each other: launched all at once or not at all.
// Head dims of 64 and 128, up to kMostQueriesPerKv queries for a key.
void row_layers_bf16(const RowLayers& work, cudaStream_t stream);
void row_layers_int8(const RowLayers& work, cudaStream_t stream);
void row_layers_fp8(const RowLayers& work, cudaStream_t stream);
void row_layers_int4(const RowLayers& work, cudaStream_t stream);

}  // namespace narrow::ops::cuda
