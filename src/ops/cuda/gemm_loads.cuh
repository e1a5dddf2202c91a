// The two threads that keep the ring of gemm.cuh filled.
//
// Of weights no more are asked for at a time than keep the memory busy, though the ring may have
// place for them: all that is read meanwhile would wait behind them, rows of x and what the kernels
// in between read (docs/performance/products.md). So two threads: one that waits for weights to
// land could not ask for x as soon as it is there.
#pragma once

#include "ops/cuda/device.cuh"
#include "ops/cuda/gemm_output.cuh"
#include "ops/cuda/tile_ring.cuh"

namespace narrow::ops::cuda {

struct GemmWork {
  int steps;        // along k, of a stage each
  bool whole;       // the width is a multiple of an atom (tensor_map.h)
  int stages;       // of the ring
  int under_way;    // stages of weights, at most
  int x_bytes;      // of an atom of a stage's rows of x; the weights lie behind all of them
  int token_tiles;  // tiles along the rows; the rest of the grid is along the outputs
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

// Calls load(place, element, atom, stage, i) for every step of the block's tiles, the i-th of all,
// once its stage has been read. kElements, kAtoms: of a step.
template <int kElements, int kAtoms, bool kAllRows, class Load>
__device__ void for_each_step(const GemmWork& work, TileBarriers& barriers, Load load) {
  StagePlace at{0, 1};  // the phase before the first: an empty ring may be filled
  int i = 0;
  for (int tile = static_cast<int>(blockIdx.x); tile < work.tiles;
       tile += static_cast<int>(gridDim.x)) {
    const TilePlace place = place_of<kAllRows>(work, tile);
    for (int step = 0; step < work.steps; ++step, ++i) {
      wait(&barriers.read[at.stage], at.parity);
      load(place, work.whole ? 0 : step * kElements, work.whole ? step * kAtoms : 0, at.stage, i);
      at.advance(work.stages);
    }
  }
}

// to: the weights of the first stage. kGated: as in gemm.cuh. They do not depend on the kernel
// before this one: the first fill the ring while it ends.
template <int kElements, int kAtoms, int kOut, bool kGated, bool kAllRows>
__device__ void load_weights(const CUtensorMap& map, const GemmWork& work, int stage_bytes,
                             TileBarriers& barriers, uint8_t* to) {
  constexpr int kColumns = kGated ? kOut / 2 : kOut;
  prefetch_map(&map);
  StagePlace landing;
  for_each_step<kElements, kAtoms, kAllRows>(
      work, barriers, [&](const TilePlace& place, int element, int atom, int stage, int i) {
        if (i >= work.under_way) {
          wait(&barriers.weights[landing.stage], landing.parity);
          landing.advance(work.stages);
        }
        const int row = place.outs * kColumns;
        uint64_t* const landed = &barriers.weights[stage];
        arrive_expecting(landed, kAtoms * kOut * kAtomBytes);
        if constexpr (kGated) {
          copy_tile_of_halves(to + stage * stage_bytes, &map, element, row, atom, landed);
        } else {
          copy_tile(to + stage * stage_bytes, &map, element, row, atom, landed);
        }
      });
}

// to: the rows of x of the first stage.
template <int kElements, int kAtoms, int kTokens, bool kAllRows>
__device__ void load_x(const CUtensorMap& map, const GemmWork& work, int stage_bytes,
                       TileBarriers& barriers, uint8_t* to) {
  prefetch_map(&map);
  if (!work.beside_previous) wait_for_previous_kernel();
  for_each_step<kElements, kAtoms, kAllRows>(
      work, barriers, [&](const TilePlace& place, int element, int atom, int stage, int) {
        uint64_t* const landed = &barriers.x[stage];
        arrive_expecting(landed, static_cast<uint32_t>(kAtoms * work.x_bytes));
        copy_tile(to + stage * stage_bytes, &map, element, place.rows * kTokens, atom, landed);
      });
  if (work.beside_previous) wait_for_previous_kernel();
}

}  // namespace narrow::ops::cuda
