// The two threads that keep the ring of gemm.cuh filled.
//
// Of weights no more are asked for at a time than keep the memory busy while a ring is filled for
// the first time, though it may have place for them: all that is read meanwhile would wait behind
// them, rows of x and what the kernels in between read (docs/performance/products.md). So two
// threads: one that waits for weights to land could not ask for x as soon as it is there.
#pragma once

#include "ops/cuda/device.cuh"
#include "ops/cuda/gemm_output.cuh"
#include "ops/cuda/tile_ring.cuh"

namespace narrow::ops::cuda {

struct GemmWork {
  int steps;         // along k, of a stage each
  bool whole;        // the width is a multiple of an atom (tensor_map.h)
  int stages;        // of the ring
  int under_way;     // stages of weights, at most, until the ring has been full
  int x_bytes;       // of an atom of a stage's rows of x; the weights lie behind all of them
  int last_x_bytes;  // the same in the last tile along the rows: the copy engine is slow where
                     // there are no rows, twice as slow as where there are
  int token_tiles;   // tiles along the rows; the rest of the grid is along the outputs
  int tile_rows;     // of a tile but the last one; a multiple of 16
  int tiles;
  // The kernel before this one is of the same product, of other outputs: what this one reads was
  // there before that one began, so only the end of this one waits for it.
  bool beside_previous;
  bool prefetches_y;  // what is there is added to (gemm_staging.cuh)
  GemmOutput to;
};

// Where a tile is, in tiles along the rows and along the outputs. kAllRows: a tile has all rows.
struct TilePlace {
  int rows, outs;
};
template <bool kAllRows>
__device__ inline TilePlace place_of(const GemmWork& work, int tile) {
  if constexpr (kAllRows) return {0, tile};
  return {tile % work.token_tiles, tile / work.token_tiles};
}

// The steps that a block has of its tiles, which kSharers neighbouring blocks share.
struct StepShare {
  int begin, end;
};
template <int kSharers>
__device__ inline StepShare share_of(const GemmWork& work) {
  const int rank = static_cast<int>(blockIdx.x) % kSharers;
  return {work.steps * rank / kSharers, work.steps * (rank + 1) / kSharers};
}

// Calls load(of_tile(place), element, atom, stage, i) for every step of the block's tiles, the i-th
// of all, once its stage has been read. kElements, kAtoms: of a step.
template <int kElements, int kAtoms, bool kAllRows, int kSharers, class OfTile, class Load>
__device__ void for_each_step(const GemmWork& work, TileBarriers& barriers, OfTile of_tile,
                              Load load) {
  StagePlace at{0, 1};  // the phase before the first: an empty ring may be filled
  int i = 0;
  const StepShare share = share_of<kSharers>(work);
  for (int tile = static_cast<int>(blockIdx.x) / kSharers; tile < work.tiles;
       tile += static_cast<int>(gridDim.x) / kSharers) {
    const auto of = of_tile(place_of<kAllRows>(work, tile));
    for (int step = share.begin; step < share.end; ++step, ++i) {
      wait(&barriers.read[at.stage], at.parity);
      load(of, work.whole ? 0 : step * kElements, work.whole ? step * kAtoms : 0, at.stage, i);
      at.advance(work.stages);
    }
  }
}

// to: the weights of the first stage. kGated: as in gemm.cuh. They do not depend on the kernel
// before this one: the first fill the ring while it ends.
template <int kElements, int kAtoms, int kOut, bool kGated, bool kAllRows, int kSharers = 1>
__device__ void load_weights(const CUtensorMap& map, const GemmWork& work, int stage_bytes,
                             TileBarriers& barriers, uint8_t* to) {
  constexpr int kColumns = kGated ? kOut / 2 : kOut;
  prefetch_map(&map);
  for_each_step<kElements, kAtoms, kAllRows, kSharers>(
      work, barriers, [](const TilePlace& place) { return place.outs * kColumns; },
      [&](int row, int element, int atom, int stage, int i) {
        if (i >= work.under_way && i < work.stages)
          wait(&barriers.weights[i - work.under_way], /*parity=*/0);
        uint64_t* const landed = &barriers.weights[stage];
        arrive_expecting(landed, kAtoms * kOut * kAtomBytes);
        if constexpr (kGated) {
          copy_tile_of_halves(to + stage * stage_bytes, &map, element, row, atom, landed);
        } else {
          copy_tile(to + stage * stage_bytes, &map, element, row, atom, landed);
        }
      });
}

// to: the rows of x of the first stage. last_map: in boxes of as many rows as the last tile along
// the rows has; not looked at where a tile has all rows.
template <int kElements, int kAtoms, bool kAllRows, int kSharers = 1>
__device__ void load_x(const CUtensorMap& map, const CUtensorMap& last_map, const GemmWork& work,
                       int stage_bytes, TileBarriers& barriers, uint8_t* to) {
  static_assert(kAllRows || kAtoms == 1);  // atoms of a box are as far apart as it has rows
  prefetch_map(&map);
  if constexpr (!kAllRows) prefetch_map(&last_map);
  if (!work.beside_previous) wait_for_previous_kernel();
  struct Rows {
    const CUtensorMap* map;
    uint32_t bytes;
    int first;
  };
  for_each_step<kElements, kAtoms, kAllRows, kSharers>(
      work, barriers,
      [&](const TilePlace& place) -> Rows {
        if (kAllRows) return {&map, static_cast<uint32_t>(kAtoms * work.x_bytes), 0};
        const bool last = place.rows + 1 == work.token_tiles;
        return {last ? &last_map : &map,
                static_cast<uint32_t>(last ? work.last_x_bytes : work.x_bytes),
                place.rows * work.tile_rows};
      },
      [&](const Rows& rows, int element, int atom, int stage, int) {
        uint64_t* const landed = &barriers.x[stage];
        arrive_expecting(landed, rows.bytes);
        copy_tile(to + stage * stage_bytes, rows.map, element, rows.first, atom, landed);
      });
  if (work.beside_previous) wait_for_previous_kernel();
}

}  // namespace narrow::ops::cuda
