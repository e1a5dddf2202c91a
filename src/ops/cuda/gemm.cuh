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
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/tensor_map.h"
#include "ops/cuda/tile_ring.cuh"

namespace narrow::ops::cuda {

struct GemmWork {
  int rows, out;
  int atoms;        // of kAtomBytes bytes along k, of a stage
  int steps;        // along k, of `atoms` atoms
  bool whole;       // the width is a multiple of an atom (tensor_map.h)
  int stages;       // of the ring
  int x_bytes;      // of an atom of a stage's rows of x; the weights lie behind all of them
  int token_tiles;  // tiles along the rows; the rest of the grid is along the outputs
  int tiles;
  const float* row_scale;     // 8-bit types
  const float* column_scale;  // 8-bit types
  Output y;
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

// Brings words of the four lanes of a quad, lane t's j-th being piece t of block j, to lane j.
__device__ inline uint4 gather_block(uint32_t w0, uint32_t w1, uint32_t w2, uint32_t w3) {
  const bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
  const auto exchange = [](uint32_t& a, uint32_t& b, bool second, int distance) {
    const uint32_t got = __shfl_xor_sync(0xffffffffu, second ? a : b, distance);
    (second ? a : b) = got;
  };
  exchange(w0, w1, odd, 1);
  exchange(w2, w3, odd, 1);
  exchange(w0, w2, high, 2);
  exchange(w1, w3, high, 2);
  return make_uint4(w0, w1, w2, w3);
}

// Writes a warpgroup's 64 rows of a tile.
template <MmaType type, int kOut, class Sum>
__device__ void store_tile(const GemmWork& work, const Sum (&sums)[kOut / 2], int row0,
                           int column0) {
  constexpr bool kScaled = type != MmaType::bf16;
  const int warp = threadIdx.x % kWarpgroup / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const Output& y = work.y;
  const int rows[2] = {row0 + 16 * warp + g, row0 + 16 * warp + g + 8};
  float row_scale[2] = {1, 1};
  if (kScaled)
    for (int i = 0; i < 2; ++i)
      if (rows[i] < work.rows) row_scale[i] = work.row_scale[rows[i]];
  const bool whole = kOut % 32 == 0 && !y.f32 && column0 + kOut <= work.out && y.stride % 8 == 0 &&
                     reinterpret_cast<uintptr_t>(y.data) % 16 == 0;
  // Four blocks of eight columns at a time.
#pragma unroll
  for (int first = 0; first < kOut / 8; first += 4) {
    float2 scale[4], bias[4];
#pragma unroll
    for (int j = 0; j < 4 && first + j < kOut / 8; ++j) {
      const int column = column0 + 8 * (first + j) + 2 * t;
      scale[j] = make_float2(1, 1), bias[j] = make_float2(0, 0);
      if (column < work.out) {
        if (kScaled) scale[j].x = __ldg(work.column_scale + column);
        if (y.bias) bias[j].x = __ldg(y.bias + column);
      }
      if (column + 1 < work.out) {
        if (kScaled) scale[j].y = __ldg(work.column_scale + column + 1);
        if (y.bias) bias[j].y = __ldg(y.bias + column + 1);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const auto value = [&](int j) {
        const float low = static_cast<float>(sums[4 * (first + j) + 2 * i]);
        const float high = static_cast<float>(sums[4 * (first + j) + 2 * i + 1]);
        return kScaled ? make_float2(low * (row_scale[i] * scale[j].x) + bias[j].x,
                                     high * (row_scale[i] * scale[j].y) + bias[j].y)
                       : make_float2(low + bias[j].x, high + bias[j].y);
      };
      if (whole) {
        uint32_t words[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) words[j] = pack_bf16(value(j).x, value(j).y);
        const uint4 block = gather_block(words[0], words[1], words[2], words[3]);
        if (rows[i] < work.rows)
          *reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(y.data) + rows[i] * y.stride +
                                    column0 + 8 * (first + t)) = block;
        continue;
      }
#pragma unroll
      for (int j = 0; j < 4 && first + j < kOut / 8; ++j) {
        const float2 pair = value(j);
        const int column = column0 + 8 * (first + j) + 2 * t;
        for (int c = 0; c < 2; ++c) {
          if (rows[i] >= work.rows || column + c >= work.out) continue;
          const int64_t at = rows[i] * y.stride + column + c;
          if (y.f32) {
            static_cast<float*>(y.data)[at] = c == 0 ? pair.x : pair.y;
          } else {
            static_cast<__nv_bfloat16*>(y.data)[at] = __float2bfloat16_rn(c == 0 ? pair.x : pair.y);
          }
        }
      }
    }
  }
}

template <MmaType type, int kConsumers, int kOut>
__global__ void __launch_bounds__((kConsumers + 1) * kWarpgroup, kBlocks<kConsumers>)
    gemm_kernel(const __grid_constant__ CUtensorMap weight_map,
                const __grid_constant__ CUtensorMap x_map, GemmWork work) {
  constexpr int kTokens = 64 * kConsumers;
  constexpr int kElements = type == MmaType::bf16 ? kAtomBytes / 2 : kAtomBytes;  // of a step
  constexpr int kWeightBytes = kOut * kAtomBytes;
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t full[kMostStages], empty[kMostStages];
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
  let_next_kernel_start();

  if (threadIdx.x < kWarpgroup) {
    if constexpr (kConsumers * kOut >= 256) give_up_registers<40>();
    if (threadIdx.x != 0) return;
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
      at.row = tile / work.token_tiles * kOut;
      at.token = tile % work.token_tiles * kTokens;
      at.step = 0;
    };
    const auto start = [&] {
      enter_tile(blockIdx.x);
      at.stage = 0;
      at.parity = 1;  // of the phase before the first: an empty ring may be filled
    };
    const auto load = [&](const CUtensorMap* map, int offset, int row) {
      copy_tile(ring + at.stage * stage_bytes + offset, map, work.whole ? 0 : at.step * kElements,
                row, work.whole ? at.step * work.atoms : 0, &full[at.stage]);
    };
    const auto load_weights = [&] {
      arrive_expecting(&full[at.stage], static_cast<uint32_t>(stage_bytes));
      load(&weight_map, work.atoms * work.x_bytes, at.row);
    };
    const auto load_x = [&] { load(&x_map, 0, at.token); };
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

  if constexpr (kConsumers * kOut >= 256) take_registers<232>();
  wait_for_previous_kernel();
  const int consumer = warpgroup() - 1;
  const bool speaks = threadIdx.x % kWarpgroup == 0;
  TileRing place{ring, full, empty, work.stages, stage_bytes};
  for (int tile = blockIdx.x; tile < work.tiles; tile += gridDim.x) {
    const int row0 = tile % work.token_tiles * kTokens + 64 * consumer;
    const int column0 = tile / work.token_tiles * kOut;
    const int x_offset = consumer * 64 * kAtomBytes;
    if constexpr (kPromotes<type>) {
      float totals[kOut / 2] = {};
      // Of two warpgroups ptxas has registers for sums of fewer atoms.
      constexpr int kAtomsOfRun = kConsumers == 1 ? 8 : 4;
      if constexpr (kHalves<type, kOut>) {
        add_products_in_halves<kOut, 8>(place, work.steps, x_offset, work.x_bytes, speaks, totals);
      } else {
        add_products_by_atoms<kOut, kAtomsOfRun>(place, work.steps, work.atoms, x_offset,
                                                 work.x_bytes, speaks, totals);
      }
      store_tile<type, kOut>(work, totals, row0, column0);
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
    store_tile<type, kOut>(work, sums, row0, column0);
  }
}

template <MmaType type, int kConsumers, int kOut>
void launch_gemm(const Gemm& gemm, cudaStream_t stream) {
  constexpr int kTokens = 64 * kConsumers;
  constexpr int kElementBytes = type == MmaType::bf16 ? 2 : 1;
  const auto kernel = gemm_kernel<type, kConsumers, kOut>;
  static const bool allowed = [&] {
    allow_shared_memory(kernel, kRingBytes + kOverread + 1024);
    return true;
  }();
  (void)allowed;
  GemmWork work{};
  work.rows = static_cast<int>(gemm.rows);
  work.out = static_cast<int>(gemm.out);
  const TensorMapType map_type = type == MmaType::bf16 ? TensorMapType::bf16 : TensorMapType::byte;
  work.token_tiles = div_up(gemm.rows, kTokens);
  work.tiles = work.token_tiles * div_up(gemm.out, kOut);
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
  work.row_scale = gemm.row_scale;
  work.column_scale = gemm.column_scale;
  work.y = gemm.y;
  const CUtensorMap weight_map =
      atoms_map(gemm.weight, map_type, gemm.in, gemm.w_rows, gemm.w_stride, kOut, work.atoms);
  const CUtensorMap x_map =
      atoms_map(gemm.x, map_type, gemm.in, gemm.rows, gemm.x_stride, x_rows, work.atoms);
  launch(kernel, static_cast<unsigned>(std::min(work.tiles, processors() * blocks)),
         (kConsumers + 1) * kWarpgroup, ring_bytes + kOverread + 1024, stream, weight_map, x_map,
         work);
}

// Picks the tile; it changes no bit of the result.
template <MmaType type>
void run_gemm(const Gemm& gemm, cudaStream_t stream) {
  const int64_t wide = div_up(gemm.out, 64), token_tiles = div_up(gemm.rows, 128);
  if (gemm.rows <= 64) {
    // Rows of x are read once per tile: from some rows on that outweighs an even spread.
    if (gemm.rows <= 16 || wide < processors()) return launch_gemm<type, 1, 32>(gemm, stream);
    return launch_gemm<type, 1, 64>(gemm, stream);
  }
  // Blocks take tiles in rounds. What a round costs, by the width of its tiles, in hundredths of
  // one of 64 outputs: wide tiles read rows of x less often, narrow ones leave fewer processors
  // idle in the last round. Measured (docs/performance.md); the ratios are much the same for all
  // types.
  constexpr int kWide = kPromotes<type> ? 192 : 256, kWideRound = kPromotes<type> ? 165 : 218;
  const auto cost = [&](int width, int round) {
    return div_up(token_tiles * div_up(gemm.out, width), processors()) * round;
  };
  const int64_t narrow = cost(64, 100), medium = cost(128, 118), widest = cost(kWide, kWideRound);
  if (narrow <= std::min(medium, widest)) return launch_gemm<type, 2, 64>(gemm, stream);
  if (medium <= widest) return launch_gemm<type, 2, 128>(gemm, stream);
  launch_gemm<type, 2, kWide>(gemm, stream);
}

}  // namespace narrow::ops::cuda
