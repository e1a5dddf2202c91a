// What the products of 4-bit weights on Hopper's tensor cores have in common (gemm_int4.cu,
// gemm_int4_split.cu). Outputs stand along the 64 rows of a warpgroup's product and rows of x along
// its columns, because weights become bf16 in registers, which only that operand may come from.
// Threads of a warpgroup of their own keep rings of chunks (int4_layout.h) and of the rows of x
// beside them filled by the copy engine.
#pragma once

#include <algorithm>

#include "ops/cuda/hopper.cuh"
#include "ops/cuda/int4.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/tensor_map.h"
#include "ops/cuda/tile_ring.cuh"

namespace narrow::ops::cuda {

inline constexpr int kInt4MostStages = 12;
inline constexpr int kInt4Memory = 224 << 10;  // of a block

struct Int4Work {
  const uint8_t* weights;
  const float* scale;  // of outputs
  int64_t tile_bytes;  // of a row of chunks
  int chunk_bytes;
  int groups;  // of a chunk
  bool offsets;
  bool whole;  // the width is a multiple of an atom of x (tensor_map.h)
  int rows, out, tiles, chunks;
  // Rows of x asked for in the last tile along the tokens. The copy engine is slow where there are
  // no rows, but to leave out a few is not worth a second copy.
  int last_x_rows;
  int token_tiles, units;  // a unit: a tile of outputs of all warpgroups side by side, by tokens
  // Tiles of outputs from a unit to the one behind it, from a warpgroup's to that of the next one.
  int to_next_unit, to_next_group;
  int step;  // from a block's unit to its next one, in units
  int step_tiles, step_token_tiles;
  int stages, stage_bytes;
  bool stages_y;  // y is written by the copy engine (gemm_int4.cu)
  Output y;
};

// Of a block's units, the one at hand: its first tile of outputs, and which of the tokens'.
struct Int4Place {
  int unit, tile, token_tile;

  // Few rows have no division to wait for.
  __device__ Int4Place(const Int4Work& work, int first_unit) : unit(first_unit) {
    const bool many = work.token_tiles > 1;
    token_tile = many ? unit % work.token_tiles : 0;
    tile = (many ? unit / work.token_tiles : unit) * work.to_next_unit;
  }
  __device__ void advance(const Int4Work& work) {
    unit += work.step;
    tile += work.step_tiles;
    token_tile += work.step_token_tiles;
    if (token_tile >= work.token_tiles) {
      token_tile -= work.token_tiles;
      tile += work.to_next_unit;
    }
  }
};

// What is known of the weights: groups of 128, or of any size; offsets, or perhaps.
enum class Int4Kind { symmetric, asymmetric, any };

// kSideBySide warpgroups have outputs of their own, kRings such sets have other inputs, from rings
// of their own. kBatch: steps of sixteen inputs whose weights are made before they are multiplied;
// two such batches are in registers at a time.
template <int kSideBySide_, int kRings_, int kTokens_, int kBatch_>
struct Int4Shape {
  static constexpr int kSideBySide = kSideBySide_, kRings = kRings_, kTokens = kTokens_;
  static constexpr int kBatch = kBatch_;
  static constexpr int kOuts = kInt4Outs * kSideBySide;
  static constexpr int kGroups = kSideBySide * kRings;
  static constexpr int kThreads = (kGroups + 1) * kWarpgroup;
  // Moved from the producers to the others: together not more than the block is launched with, 168
  // or 96 a thread, or it would wait for them forever.
  static_assert(kGroups == 2 || kGroups == 4);
  static constexpr int kConsumerRegisters = kGroups == 2 ? 232 : 112;
  static constexpr int kProducerRegisters = kGroups == 2 ? 40 : 32;
  static constexpr int kXBytes = kTokens * kInt4Inputs * 2;
};

struct Int4Ring {
  uint8_t* memory;
  uint64_t *full, *empty;  // [kInt4MostStages]
};

// Of rows of x: boxes of a chunk's inputs (or, of other widths, half of them) of kTokens rows, and
// of half of a chunk's of Int4Work::last_x_rows.
struct Int4XMaps {
  CUtensorMap whole, last;
};

// By one thread: chunks [begin, begin + count) of a block's units, of which `first_unit` is first.
// begin_unit(place): once for each, behind its first rows of x.
template <class S, class BeginUnit>
__device__ void fill_int4_ring(const Int4XMaps& x_maps, const Int4Work& work, const Int4Ring& ring,
                               int begin, int count, int first_unit, BeginUnit begin_unit) {
  prefetch_map(&x_maps.whole);
  prefetch_map(&x_maps.last);
  const Int4Place first_place(work, first_unit);
  Int4Place of = first_place;
  bool is_cut;  // the last tile along the tokens, and of fewer rows
  int chunk;
  StagePlace at;
  const auto cut = [&](const Int4Place& place) {
    return work.last_x_rows < S::kTokens && place.token_tile + 1 == work.token_tiles;
  };
  const auto start = [&] {
    of = first_place;
    is_cut = cut(of);
    chunk = begin;
    at = {0, 1};  // the phase before the first: an empty ring may be filled
  };
  const auto more = [&] { return count > 0 && of.unit < work.units; };
  const auto advance = [&] {
    if (++chunk == begin + count) {
      chunk = begin;
      of.advance(work);
      is_cut = cut(of);
    }
    at.advance(work.stages);
  };
  const auto place = [&] { return ring.memory + at.stage * work.stage_bytes; };
  const auto load_weights = [&] {
    uint64_t* barrier = &ring.full[at.stage];
    const int x_bytes = is_cut ? work.last_x_rows * kInt4Inputs * 2 : S::kXBytes;
    arrive_expecting(barrier, static_cast<uint32_t>(x_bytes + S::kSideBySide * work.chunk_bytes));
#pragma unroll
    for (int o = 0; o < S::kSideBySide; ++o) {
      // Beyond the last tile nothing is stored: any weights do.
      const int64_t tile = min(of.tile + o * work.to_next_group, work.tiles - 1);
      copy_bytes(
          place() + S::kXBytes + o * work.chunk_bytes,
          work.weights + tile * work.tile_bytes + static_cast<int64_t>(chunk) * work.chunk_bytes,
          static_cast<uint32_t>(work.chunk_bytes), barrier);
    }
  };
  const auto load_x = [&] {
    uint64_t* barrier = &ring.full[at.stage];
    const int token = of.token_tile * S::kTokens;
    if (work.whole && !is_cut) {
      copy_tile(place(), &x_maps.whole, 0, token, 2 * chunk, barrier);
    } else {
      const CUtensorMap* const map = is_cut ? &x_maps.last : &x_maps.whole;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int atom = 2 * chunk + half, k = atom * (kInt4Inputs / 2);
        copy_tile(place() + half * (S::kXBytes / 2), map, work.whole ? 0 : k, token,
                  work.whole ? atom : 0, barrier);
      }
    }
    if (chunk == begin) begin_unit(of);
  };
  // Weights do not depend on the kernel before this one: the first fill the ring while it ends.
  start();
  for (int i = 0; i < work.stages && more(); ++i, advance()) load_weights();
  wait_for_previous_kernel();
  start();
  for (int i = 0; i < work.stages && more(); ++i, advance()) load_x();
  for (; more(); advance()) {
    wait(&ring.empty[at.stage], at.parity);
    load_weights();
    load_x();
  }
}

// A chunk of the ring, as a warpgroup multiplies it: in batches of kBatch steps of sixteen inputs.
template <class S, Int4Kind kKind>
class Int4Chunk {
 public:
  static constexpr int kBatches = kInt4Inputs / 16 / S::kBatch;

  Int4Chunk() = default;
  // What has landed in a stage. beside: of kSideBySide.
  __device__ Int4Chunk(const Int4Work& work, const Int4Ring& ring, int stage, int beside) {
    const int thread = threadIdx.x % kWarpgroup;
    const int warp = thread / kWarpSize, g = thread % kWarpSize / 4;
    const uint8_t* const memory = ring.memory + stage * work.stage_bytes;
    const uint8_t* const weights = memory + S::kXBytes + beside * work.chunk_bytes;
    const auto* halves = reinterpret_cast<const uint4*>(weights) + thread;
    const uint4 low = halves[0], high = halves[kInt4WordBytes / 2 / 16];
    x_ = tile_descriptor_low(memory);
    words_[0] = low.x, words_[1] = low.y, words_[2] = low.z, words_[3] = low.w;
    words_[4] = high.x, words_[5] = high.y, words_[6] = high.z, words_[7] = high.w;
    scales_ = reinterpret_cast<const uint32_t*>(weights + kInt4WordBytes) + warp * 8 + g;
    if (kKind != Int4Kind::any) group_ = {scales_[0], kOffsets ? scales_[kInt4GroupBytes / 4] : 0};
  }

  // The weights of a batch, as operands.
  __device__ void make(const Int4Work& work, int batch, uint32_t (&to)[S::kBatch][4]) {
#pragma unroll
    for (int s = 0; s < S::kBatch; s += 2) {
      const int step = batch * S::kBatch + s;
      if constexpr (kKind == Int4Kind::any) {
        const int index = step / 2 * work.groups / 4 * (kInt4GroupBytes / 4);
        group_ = {scales_[index], work.offsets
                                      ? scales_[work.groups * (kInt4GroupBytes / 4) + index]
                                      : kSymmetricOffsets};
      }
      group_.weights(words_[step], to[s]);
      group_.weights(words_[step + 1], to[s + 1]);
    }
  }

  // A batch's products with kTokens rows of x, from `first` on. keep_sums: 0 starts anew.
  template <int kTokens>
  __device__ void multiply(int batch, const uint32_t (&weights)[S::kBatch][4], int first,
                           int keep_sums, float (&sums)[kTokens / 2]) const {
#pragma unroll
    for (int s = 0; s < S::kBatch; ++s) {
      const int step = batch * S::kBatch + s;
      wgmma_registers<kTokens>(
          sums, weights[s],
          descriptor_from_low(x_ + first * (kAtomBytes / 16) +
                              step / 4 * (S::kTokens * kAtomBytes / 16) + step % 4 * 2),
          s > 0 ? 1 : keep_sums);
    }
  }

 private:
  static constexpr bool kOffsets = kKind != Int4Kind::symmetric;
  uint32_t words_[kInt4Inputs / 16];
  uint32_t x_;
  const uint32_t* scales_;
  Int4Group<kOffsets> group_;
};

// By a warpgroup: its sums over a part of the inputs, `chunks` of the ring's stages; thread
// 32 w + 4 g + t has outputs 16 w + g + 8 i of rows 8 j + 2 t + c of x as sums[4 j + 2 i + c].
template <class S, Int4Kind kKind>
__device__ void add_int4_part(const Int4Work& work, const Int4Ring& ring, StagePlace& at,
                              int chunks, int beside, float (&sums)[S::kTokens / 2]) {
  using Chunk = Int4Chunk<S, kKind>;
  const int lane = threadIdx.x % kWarpSize;
  if (chunks == 0)
    for (float& sum : sums) sum = 0;
  int previous = -1;  // the stage whose products may still run
  uint32_t a[2][S::kBatch][4];
  for (int chunk = 0; chunk < chunks; ++chunk) {
    wait(&ring.full[at.stage], at.parity);
    Chunk of(work, ring, at.stage, beside);
#pragma unroll
    for (int batch = 0; batch < Chunk::kBatches; ++batch) {
      // All but the latest products: those that read the same registers are done.
      wgmma_wait<1>();
      if (batch == 1 && previous >= 0 && lane == 0) arrive(&ring.empty[previous]);
      of.make(work, batch, a[batch % 2]);
      wgmma_fence();
      of.template multiply<S::kTokens>(batch, a[batch % 2], 0, chunk > 0 || batch > 0, sums);
      wgmma_commit();
    }
    previous = at.stage;
    at.advance(work.stages);
  }
  wgmma_wait<0>();
  if (previous >= 0 && lane == 0) arrive(&ring.empty[previous]);
#pragma unroll
  for (float& sum : sums) keep(sum);
}

// extra_bytes: of a block's shared memory, what is no ring's.
template <class S>
Int4Work describe_int4(const Int4Weights& weights, int64_t out, int64_t in, int64_t rows, Output y,
                       int extra_bytes) {
  Int4Work work{};
  work.weights = weights.chunks;
  work.scale = weights.scale;
  work.groups = kInt4Inputs / weights.group;
  work.offsets = weights.offsets;
  work.chunk_bytes = kInt4WordBytes + work.groups * kInt4GroupBytes * (weights.offsets ? 2 : 1);
  work.chunks = div_up(in, kInt4Inputs);
  work.tile_bytes = static_cast<int64_t>(work.chunks) * work.chunk_bytes;
  work.whole = whole_atoms(TensorMapType::bf16, in);
  work.rows = static_cast<int>(rows);
  work.out = static_cast<int>(out);
  work.tiles = div_up(out, kInt4Outs);
  work.token_tiles = div_up(rows, S::kTokens);
  constexpr int kLeastCut = 24;
  work.last_x_rows = div_up(rows - int64_t{work.token_tiles - 1} * S::kTokens, 8) * 8;
  if (S::kTokens - work.last_x_rows < kLeastCut) work.last_x_rows = S::kTokens;
  work.units = div_up(out, S::kOuts) * work.token_tiles;
  work.to_next_unit = S::kSideBySide;
  work.to_next_group = 1;
  work.step = work.units;  // a unit a block, or run() says what else
  work.stage_bytes = div_up(S::kXBytes + S::kSideBySide * work.chunk_bytes, 1024) * 1024;
  work.stages = std::min(kInt4MostStages,
                         (kInt4Memory - 1024 - extra_bytes) / (S::kRings * work.stage_bytes));
  work.y = y;
  return work;
}

// kernels: [Int4Kind], no others of the same S; their parameters: maps of x, y_maps, work.
template <class S, class Kernel, class... Maps>
void launch_int4(const Kernel (&kernels)[3], int cluster, int blocks, const Int4Work& work,
                 const Int4Weights& weights, int64_t in, const __nv_bfloat16* x, int extra_bytes,
                 cudaStream_t stream, const Maps&... y_maps) {
  static const bool allowed = [&] {
    for (const Kernel kernel : kernels) allow_shared_memory(kernel, kInt4Memory);
    return true;
  }();
  (void)allowed;
  const Int4Kind kind = weights.group != kInt4Inputs ? Int4Kind::any
                        : weights.offsets            ? Int4Kind::asymmetric
                                                     : Int4Kind::symmetric;
  const size_t bytes =
      1024 + static_cast<size_t>(S::kRings * work.stages * work.stage_bytes + extra_bytes);
  const auto map_of = [&](int rows, int atoms) {
    return atoms_map(x, TensorMapType::bf16, in, work.rows, in * 2, rows, atoms);
  };
  const Int4XMaps x_maps = {map_of(S::kTokens, 2), map_of(work.last_x_rows, 1)};
  launch_clusters(cluster, kernels[static_cast<int>(kind)], static_cast<unsigned>(blocks),
                  S::kThreads, bytes, stream, x_maps, y_maps..., work);
}

// gemm_int4_split.cu: tiles of kInt4Outs outputs and 32 or 64 rows, by one block or two.
void split_int4(int tokens, int blocks, const Int4Weights& weights, int64_t out, int64_t in,
                const __nv_bfloat16* x, int64_t rows, Output y, cudaStream_t stream);

}  // namespace narrow::ops::cuda
