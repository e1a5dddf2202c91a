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

// Scale and bias of a tile's outputs and scales of a thread's two rows: on their way to registers
// while the tile is multiplied, then to the warpgroup's shared memory, where each thread finds
// those of its columns.
template <MmaType type, int kOut>
class TileTerms {
 public:
  static constexpr bool kScaled = type != MmaType::bf16;

  // column: [kOut] of the warpgroup
  __device__ TileTerms(const GemmWork& work, float2* column, int row0, int column0)
      : column_(column), needed_(kScaled || work.y.bias) {
    if (!needed_) return;
    const int thread = threadIdx.x % kWarpgroup;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int at = column0 + i * kWarpgroup + thread;
      mine_[i] = make_float2(1, 0);
      if (i * kWarpgroup + thread >= kOut || at >= work.out) continue;
      if (kScaled) mine_[i].x = __ldg(work.column_scale + at);
      if (work.y.bias) mine_[i].y = __ldg(work.y.bias + at);
    }
    if (kScaled)
      for (int i = 0; i < 2; ++i)
        if (const int row = row0 + row_of_lane(i); row < work.rows) row_[i] = work.row_scale[row];
  }

  // Called by the whole warpgroup before terms are asked for.
  __device__ void share() const {
    if (!needed_) return;
    const int thread = threadIdx.x % kWarpgroup;
    sync_warpgroup();  // all are done with those of the tile before
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      if (i * kWarpgroup + thread < kOut) column_[i * kWarpgroup + thread] = mine_[i];
    sync_warpgroup();
  }

  // The output of two neighbouring columns, counted from the tile's first, of the i-th row.
  template <class Sum>
  __device__ float2 finish(Sum low, Sum high, int i, int column) const {
    float2 value = make_float2(static_cast<float>(low), static_cast<float>(high));
    if (!needed_) return make_float2(value.x + 0.0f, value.y + 0.0f);  // no negative zeros
    const float4 terms = *reinterpret_cast<const float4*>(column_ + column);
    return kScaled ? make_float2(value.x * (row_[i] * terms.x) + terms.y,
                                 value.y * (row_[i] * terms.z) + terms.w)
                   : make_float2(value.x + terms.y, value.y + terms.w);
  }

  // Of the lane's i-th row among the warpgroup's.
  __device__ static int row_of_lane(int i) {
    return threadIdx.x % kWarpgroup / kWarpSize * 16 + threadIdx.x % kWarpSize / 4 + 8 * i;
  }

 private:
  static constexpr int kEach = (kOut + kWarpgroup - 1) / kWarpgroup;

  // A branch to one of two barriers with numbers would cost the loop its uniform descriptors.
  __device__ static void sync_warpgroup() {
    asm volatile("bar.sync %0, %1;" ::"r"(1 + static_cast<int>(threadIdx.x) / kWarpgroup),
                 "n"(kWarpgroup)
                 : "memory");
  }

  float2* column_;
  bool needed_;
  float2 mine_[kEach];
  float row_[2] = {1, 1};
};

// Writes a warpgroup's 64 rows of a tile.
template <MmaType type, int kOut, class Sum>
__device__ void store_tile(const GemmWork& work, const Sum (&sums)[kOut / 2],
                           const TileTerms<type, kOut>& terms, int row0, int column0) {
  const int t = threadIdx.x % 4;
  const Output& y = work.y;
  terms.share();
  const bool whole = kOut % 32 == 0 && !y.f32 && column0 + kOut <= work.out && y.stride % 8 == 0 &&
                     reinterpret_cast<uintptr_t>(y.data) % 16 == 0;
  // Four blocks of eight columns at a time.
#pragma unroll
  for (int first = 0; first < kOut / 8; first += 4) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = row0 + terms.row_of_lane(i);
      const auto value = [&](int j) {
        return terms.finish(sums[4 * (first + j) + 2 * i], sums[4 * (first + j) + 2 * i + 1], i,
                            8 * (first + j) + 2 * t);
      };
      if (whole) {
        uint32_t words[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float2 pair = value(j);
          words[j] = pack_bf16(pair.x, pair.y);
        }
        const uint4 block = gather_block(words[0], words[1], words[2], words[3]);
        if (row < work.rows)
          *reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(y.data) + row * y.stride + column0 +
                                    8 * (first + t)) = block;
        continue;
      }
#pragma unroll
      for (int j = 0; j < 4 && first + j < kOut / 8; ++j) {
        const float2 pair = value(j);
        const int column = column0 + 8 * (first + j) + 2 * t;
        for (int c = 0; c < 2; ++c) {
          if (row >= work.rows || column + c >= work.out) continue;
          const int64_t at = row * y.stride + column + c;
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
__global__ void __launch_bounds__(kThreads<kConsumers>, kRegisterShares<kConsumers>)
    gemm_kernel(const __grid_constant__ CUtensorMap weight_map,
                const __grid_constant__ CUtensorMap x_map, GemmWork work) {
  constexpr int kTokens = 64 * kConsumers;
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

  if constexpr (kTakesRegisters<kConsumers, kOut>) take_registers<232>();
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int consumer = warpgroup();
  const bool speaks = threadIdx.x % kWarpgroup == 0;
  TileRing place{ring, full, empty, work.stages, stage_bytes};
  for (int tile = blockIdx.x; tile < work.tiles; tile += gridDim.x) {
    const int row0 = tile % work.token_tiles * kTokens + 64 * consumer;
    const int column0 = tile / work.token_tiles * kOut;
    const int x_offset = consumer * 64 * kAtomBytes;
    const TileTerms<type, kOut> terms(work, columns[consumer], row0, column0);
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
      store_tile<type, kOut>(work, totals, terms, row0, column0);
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
    store_tile<type, kOut>(work, sums, terms, row0, column0);
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
         kThreads<kConsumers>, ring_bytes + kOverread + 1024, stream, weight_map, x_map, work);
}

// Picks the tile; it changes no bit of the result.
template <MmaType type>
void run_gemm(const Gemm& gemm, cudaStream_t stream) {
  const int64_t token_tiles = div_up(gemm.rows, 128);
  if (gemm.rows <= 64) {
    // Rows of x are read once per tile: from some rows on that outweighs an even spread.
    if (gemm.rows <= 16 || div_up(gemm.out, 64) < processors())
      return launch_gemm<type, 1, 32>(gemm, stream);
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
