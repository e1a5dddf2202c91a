// y = x Wᵀ on Hopper's tensor cores, from one row to thousands. One warp keeps a ring of tiles in
// shared memory filled by the copy engine; one or two warpgroups of 64 rows of x each multiply
// them. Blocks stay: a block takes tile after tile of the output, and weights of the next tile are
// under way while the last one is written.
//
// An element is the sum over k in one order, in steps of the instruction (and of 128 inputs for
// e4m3, see kPromotes), whatever the tile: so a row's result does not depend on the other rows nor
// on which of the instantiations computes it.
#pragma once

#include <algorithm>

#include "ops/cuda/device.cuh"
#include "ops/cuda/gemm_e4m3.cuh"
#include "ops/cuda/gemm_output.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/tensor_map.h"
#include "ops/cuda/tile_ring.cuh"

namespace narrow::ops::cuda {

struct GemmWork {
  int atoms;        // of kAtomBytes bytes along k, of a stage
  int steps;        // along k, of `atoms` atoms
  bool whole;       // the width is a multiple of an atom (tensor_map.h)
  int stages;       // of the ring
  int x_bytes;      // of an atom of a stage's rows of x; the weights lie behind all of them
  int token_tiles;  // tiles along the rows; the rest of the grid is along the outputs
  int tiles;
  GemmOutput to;
};

inline constexpr int kMostStages = 32;
// Few rows leave the tensor cores idle: two blocks on a processor hide each other's latencies, and
// the next kernel's blocks load their first weights while this one's end.
template <int kConsumers>
inline constexpr int kBlocks = kConsumers == 1 ? 2 : 1;
inline constexpr int kRingBytes = 208 << 10, kRingBytesOfTwo = 100 << 10;
// wgmma reads 64 rows of x where a stage may hold fewer: what lies behind them is multiplied too
// and not stored, but must be memory of the block.
inline constexpr int kOverread = 64 * kAtomBytes;

// Sums of e4m3 products in Hopper's tensor cores keep about 14 bits: they are added up in float32
// after every 128 inputs (gemm_e4m3.cuh).
template <MmaType type>
inline constexpr bool kPromotes = type == MmaType::e4m3;

template <MmaType type, int kOut>
inline constexpr bool kHalves = (kPromotes<type>)&&kOut >= 128;

// The warpgroups that multiply, then the warp that fills the ring: of two warpgroups it has one to
// itself, whose registers the others take.
template <int kConsumers>
inline constexpr int kThreads = kConsumers* kWarpgroup + (kConsumers == 1 ? kWarpSize : kWarpgroup);
template <int kConsumers, int kOut>
inline constexpr bool kTakesRegisters = kConsumers* kOut >= 256;

// Registers are left to blocks of the next kernel, a norm's perhaps: they start while these run,
// and so the blocks of the product behind them can fill their rings.
template <int kConsumers>
inline constexpr int kRegisterShares = kConsumers == 1 ? 3 : 1;

// kGated: a tile's weights are kOut / 2 of the first half of the outputs and those of the second.
template <MmaType type, int kConsumers, int kOut, bool kGated>
__global__ void __launch_bounds__(kThreads<kConsumers>, kRegisterShares<kConsumers>)
    gemm_kernel(const __grid_constant__ CUtensorMap weight_map,
                const __grid_constant__ CUtensorMap x_map, GemmWork work) {
  constexpr int kTokens = 64 * kConsumers, kColumns = kGated ? kOut / 2 : kOut;   // of a tile
  constexpr int kElements = type == MmaType::bf16 ? kAtomBytes / 2 : kAtomBytes;  // of a step
  constexpr int kWeightBytes = kOut * kAtomBytes;
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t full[kMostStages], empty[kMostStages];
  __shared__ __align__(16) float2 columns[kConsumers][kOut];
  uint8_t* ring = memory + (1024 - shared_address(memory) % 1024) % 1024;
  const int stage_bytes = work.atoms * (work.x_bytes + kWeightBytes);
  if (threadIdx.x == 0) {
    for (int s = 0; s < work.stages; ++s) {
      init_barrier(&full[s], 1);
      init_barrier(&empty[s], kConsumers);
    }
    publish_barriers();
  }
  __syncthreads();

  if (threadIdx.x >= kConsumers * kWarpgroup) {
    if constexpr (kTakesRegisters<kConsumers, kOut>) give_up_registers<40>();
    if (threadIdx.x > kConsumers * kWarpgroup) return;
    prefetch_map(&weight_map);
    prefetch_map(&x_map);
    const int mine = (work.tiles - static_cast<int>(blockIdx.x) + static_cast<int>(gridDim.x) - 1) /
                     static_cast<int>(gridDim.x);
    const int loads = mine * work.steps;
    struct {
      int tile, row, token, step, stage;
      uint32_t parity;
    } at;
    const auto enter_tile = [&](int tile) {
      at.tile = tile;
      at.row = tile / work.token_tiles * kColumns;
      at.token = tile % work.token_tiles * kTokens;
      at.step = 0;
    };
    const auto start = [&] {
      enter_tile(blockIdx.x);
      at.stage = 0;
      at.parity = 1;  // of the phase before the first: an empty ring may be filled
    };
    const auto element = [&] { return work.whole ? 0 : at.step * kElements; };
    const auto atom = [&] { return work.whole ? at.step * work.atoms : 0; };
    const auto load_weights = [&] {
      uint64_t* landed = &full[at.stage];
      arrive_expecting(landed, static_cast<uint32_t>(stage_bytes));
      uint8_t* to = ring + at.stage * stage_bytes + work.atoms * work.x_bytes;
      if constexpr (kGated) {
        copy_tile_of_halves(to, &weight_map, element(), at.row, atom(), landed);
      } else {
        copy_tile(to, &weight_map, element(), at.row, atom(), landed);
      }
    };
    const auto load_x = [&] {
      copy_tile(ring + at.stage * stage_bytes, &x_map, element(), at.token, atom(),
                &full[at.stage]);
    };
    const auto advance = [&] {
      if (++at.step == work.steps) enter_tile(at.tile + gridDim.x);
      if (++at.stage == work.stages) {
        at.stage = 0;
        at.parity ^= 1;
      }
    };
    // Weights do not depend on the kernel before this one: the first fill the ring while it ends.
    const int first = min(loads, work.stages);
    start();
    for (int i = 0; i < first; ++i) {
      load_weights();
      advance();
    }
    wait_for_previous_kernel();
    start();
    for (int i = 0; i < first; ++i) {
      load_x();
      advance();
    }
    for (int i = first; i < loads; ++i) {
      wait(&empty[at.stage], at.parity);
      load_weights();
      load_x();
      advance();
    }
    return;
  }

  if constexpr (kTakesRegisters<kConsumers, kOut>) take_registers<232>();
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int consumer = warpgroup();
  const bool speaks = threadIdx.x % kWarpgroup == 0;
  TileRing place{ring, full, empty, work.stages, stage_bytes};
  for (int tile = blockIdx.x; tile < work.tiles; tile += gridDim.x) {
    const int row0 = tile % work.token_tiles * kTokens + 64 * consumer;
    const int column0 = tile / work.token_tiles * kColumns;
    const int x_offset = consumer * 64 * kAtomBytes;
    const TileTerms<type, kOut, kGated> terms(work.to, columns[consumer], row0, column0);
    if constexpr (kPromotes<type>) {
      float totals[kOut / 2] = {};
      // ptxas has no registers for more (C7512: it then waits for every product).
      constexpr int kAtomsOfRun = kConsumers == 1 ? 8 : 4, kUnderWay = kOut == 32 ? 3 : 2;
      if constexpr (kHalves<type, kOut>) {
        add_products_in_halves<kOut, 8>(place, work.steps, x_offset, work.x_bytes, speaks, totals);
      } else {
        add_products_by_atoms<kOut, kUnderWay, kAtomsOfRun>(place, work.steps, work.atoms, x_offset,
                                                            work.x_bytes, speaks, totals);
      }
      store_tile(work.to, totals, terms, row0, column0);
      continue;
    }
    typename MmaTraits<type>::Sum sums[kOut / 2];
    int previous = -1;  // the stage whose products may still run
    for (int step = 0; step < work.steps; ++step) {
      place.wait_for_tiles();
      uint64_t x = tile_descriptor(place.tiles() + x_offset);
      uint64_t w = tile_descriptor(place.tiles() + work.atoms * work.x_bytes);
      for (int atom = 0; atom < work.atoms; ++atom) {
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k)
          wgmma<type, kOut>(sums, x + 2 * k, w + 2 * k, k > 0 || step > 0 || atom > 0);
        wgmma_commit();
        x += work.x_bytes / 16;
        w += kWeightBytes / 16;
      }
      // All but the products of this stage's last atom.
      wgmma_wait<1>();
      if (speaks && previous >= 0) arrive(&empty[previous]);
      previous = place.stage;
      place.advance();
    }
    wgmma_wait<0>();
    if (speaks) arrive(&empty[previous]);
#pragma unroll
    for (int i = 0; i < kOut / 2; ++i) keep(sums[i]);
    store_tile(work.to, sums, terms, row0, column0);
  }
}

template <MmaType type, int kConsumers, int kOut, bool kGated = false>
void launch_gemm(const Gemm& gemm, cudaStream_t stream) {
  constexpr int kTokens = 64 * kConsumers, kColumns = kGated ? kOut / 2 : kOut;
  constexpr int kElementBytes = type == MmaType::bf16 ? 2 : 1;
  const auto kernel = gemm_kernel<type, kConsumers, kOut, kGated>;
  static const bool allowed = [&] {
    allow_shared_memory(kernel, kRingBytes + kOverread + 1024);
    return true;
  }();
  (void)allowed;
  GemmWork work{};
  work.to = {static_cast<int>(gemm.rows), static_cast<int>(gemm.out), gemm.row_scale,
             gemm.column_scale, gemm.y};
  const TensorMapType map_type = type == MmaType::bf16 ? TensorMapType::bf16 : TensorMapType::byte;
  work.token_tiles = div_up(gemm.rows, kTokens);
  work.tiles = work.token_tiles * div_up(gemm.out, kColumns);
  const int x_rows = std::min<int>(kTokens, div_up(gemm.rows, 8) * 8);
  work.x_bytes = x_rows * kAtomBytes;
  work.whole = whole_atoms(map_type, gemm.in);
  const int atom_bytes = work.x_bytes + kOut * kAtomBytes;
  // One thread starts the copies: small ones would keep it from filling the ring in time.
  constexpr int kCopyBytes = 24 << 10;
  work.atoms = work.whole && !kHalves<type, kOut> ? std::max(1, kCopyBytes / atom_bytes) : 1;
  const int blocks = work.tiles > processors() ? kBlocks<kConsumers> : 1;
  const int ring_bytes = blocks == 1 ? kRingBytes : kRingBytesOfTwo;
  work.stages = std::min(kMostStages, ring_bytes / (work.atoms * atom_bytes));
  work.steps = div_up(gemm.in * kElementBytes, work.atoms * kAtomBytes);
  const CUtensorMap weight_map =
      kGated
          ? atoms_of_halves_map(gemm.weight, map_type, gemm.in, 2 * gemm.out, gemm.w_stride, kOut,
                                work.atoms)
          : atoms_map(gemm.weight, map_type, gemm.in, gemm.w_rows, gemm.w_stride, kOut, work.atoms);
  const CUtensorMap x_map =
      atoms_map(gemm.x, map_type, gemm.in, gemm.rows, gemm.x_stride, x_rows, work.atoms);
  launch(kernel, static_cast<unsigned>(std::min(work.tiles, processors() * blocks)),
         kThreads<kConsumers>, ring_bytes + kOverread + 1024, stream, weight_map, x_map, work);
}

// Picks the tile; it changes no bit of the result.
template <MmaType type>
void run_gemm(const Gemm& gemm, cudaStream_t stream) {
  const int64_t token_tiles = div_up(gemm.rows, 128), out = gemm.gated ? 2 * gemm.out : gemm.out;
  if (gemm.rows <= 64 && !gemm.gated) {
    // Rows of x are read once per tile: from some rows on that outweighs an even spread.
    if (gemm.rows <= 16 || div_up(out, 64) < processors())
      return launch_gemm<type, 1, 32>(gemm, stream);
    return launch_gemm<type, 1, 64>(gemm, stream);
  }
  // Blocks take tiles in rounds. What a round costs, by the width of its tiles, in hundredths of
  // one of 64 outputs: wide tiles read rows of x less often, narrow ones leave fewer processors
  // idle in the last round. Measured (docs/performance.md); the ratios are much the same for all
  // types.
  constexpr int kWide = kPromotes<type> ? 192 : 256, kWideRound = kPromotes<type> ? 165 : 218;
  const auto cost = [&](int width, int round) {
    return div_up(token_tiles * div_up(out, width), processors()) * round;
  };
  const int64_t narrow = cost(64, 100), medium = cost(128, 118), widest = cost(kWide, kWideRound);
  if (gemm.gated)
    return medium <= widest ? launch_gemm<type, 2, 128, true>(gemm, stream)
                            : launch_gemm<type, 2, kWide, true>(gemm, stream);
  if (narrow <= std::min(medium, widest)) return launch_gemm<type, 2, 64>(gemm, stream);
  if (medium <= widest) return launch_gemm<type, 2, 128>(gemm, stream);
  launch_gemm<type, 2, kWide>(gemm, stream);
}

}  // namespace narrow::ops::cuda
