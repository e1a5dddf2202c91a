// y = x Wᵀ for 4-bit weights on Hopper's tensor cores, from some rows to thousands. Outputs stand
// along the 64 rows of a warpgroup's product and rows of x along its columns, because weights
// become bf16 in registers, which only that operand may come from. Producer warps keep rings of
// chunks (int4_layout.h) and of the rows of x beside them filled by the copy engine.
//
// Parts of the inputs (int4.cuh) are summed by one warpgroup after each other or, where outputs are
// few, by several side by side, and added in their order: the bits are the same.
#include <algorithm>

#include "ops/cuda/hopper.cuh"
#include "ops/cuda/int4.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/tensor_map.h"

namespace narrow::ops::cuda {
namespace {

constexpr int kTile = kInt4Outs;  // outputs of a warpgroup
constexpr int kMostStages = 12;
constexpr int kMemory = 224 << 10;  // of a block

struct Int4Work {
  const uint8_t* weights;
  int64_t tile_bytes;  // of a row of chunks
  int chunk_bytes;
  int groups;  // of a chunk
  bool offsets;
  bool whole;  // the width is a multiple of an atom of x (tensor_map.h)
  int rows, out, tiles, chunks;
  int token_tiles, units;
  int stages, stage_bytes;
  Output y;
};

// Registers of a thread where they are moved from the producers to kGroups warpgroups: together not
// more than the block is launched with, 168 or 96 a thread, or it would wait for them forever.
template <int kGroups>
inline constexpr int kConsumerRegisters = kGroups == 2 ? 232 : 112;
template <int kGroups>
inline constexpr int kProducerRegisters = kGroups == 2 ? 40 : 32;

// kSideBySide warpgroups have outputs of their own; or kRings share them and take parts each, from
// a ring of their own.
template <int kSideBySide, int kRings, int kTokens>
struct Shape {
  static_assert(kSideBySide == 1 || kRings == 1);
  static constexpr int kGroups = kSideBySide * kRings;
  static constexpr int kThreads = (kGroups + 1) * kWarpgroup;
  static constexpr int kParts = kInt4Parts / kRings;  // of a ring
  // Steps of sixteen inputs whose weights are made before they are multiplied; two such batches are
  // in registers at a time.
  static constexpr int kBatch = kTokens == 64 ? 2 : 4;
  static constexpr int kXBytes = kTokens * kInt4Inputs * 2;
  // Sums of the parts that other rings have, as the threads hold them: [part][sum][thread].
  static constexpr int kOtherParts = kInt4Parts - kParts;
  static constexpr int kPartFloats = kTokens / 2 * kWarpgroup;
  static constexpr int kPitch = kTile + 8;  // of a tile that waits to be stored, in bf16
  static constexpr int kStagingBytes = kSideBySide * kTokens * kPitch * 2;
  static constexpr int kExtraBytes = kStagingBytes + kOtherParts * kPartFloats * 4;
};

// Writes a warpgroup's sums through its staging memory, so that rows of y are written in pieces of
// 128 bytes.
template <int kTokens, int kPitch>
__device__ void store_sums(const Int4Work& work, const float (&sums)[kTokens / 2], int out0,
                           int token0, __nv_bfloat16* staging, int barrier) {
  const int thread = threadIdx.x % kWarpgroup;
  const int warp = thread / kWarpSize, g = thread % kWarpSize / 4, t = thread % 4;
  const Output& y = work.y;
  const int n0 = 16 * warp + g;
  float bias[2] = {0, 0};
  if (y.bias)
    for (int i = 0; i < 2; ++i)
      if (out0 + n0 + 8 * i < work.out) bias[i] = y.bias[out0 + n0 + 8 * i];
#pragma unroll
  for (int i = 0; i < kTokens / 2; ++i) {
    const int token = 8 * (i / 4) + 2 * t + i % 2, n = n0 + 8 * (i % 4 / 2);
    const float value = sums[i] + bias[i % 4 / 2];
    if (!y.f32) {
      staging[token * kPitch + n] = __float2bfloat16_rn(value);
    } else if (token0 + token < work.rows && out0 + n < work.out) {
      static_cast<float*>(y.data)[(token0 + token) * y.stride + out0 + n] = value;
    }
  }
  if (y.f32) return;
  asm volatile("bar.sync %0, 128;" ::"r"(barrier) : "memory");
  auto* to = static_cast<__nv_bfloat16*>(y.data);
  const int tokens = min(kTokens, work.rows - token0);
  if (out0 + kTile <= work.out && y.stride % 8 == 0 && reinterpret_cast<uintptr_t>(to) % 16 == 0) {
    for (int i = thread; i < tokens * kTile / 8; i += kWarpgroup) {
      const int token = i / (kTile / 8), n = i % (kTile / 8) * 8;
      *reinterpret_cast<uint4*>(to + (token0 + token) * y.stride + out0 + n) =
          *reinterpret_cast<const uint4*>(staging + token * kPitch + n);
    }
  } else {
    for (int i = thread; i < tokens * kTile; i += kWarpgroup) {
      const int token = i / kTile, n = i % kTile;
      if (out0 + n < work.out)
        to[(token0 + token) * y.stride + out0 + n] = staging[token * kPitch + n];
    }
  }
  asm volatile("bar.sync %0, 128;" ::"r"(barrier) : "memory");
}

// Named barriers of the warpgroups that share outputs: parts are in the exchange; they have been
// taken out again.
constexpr int kGiven = 8, kTaken = 9;
template <int kRings>
__device__ inline void sync_groups(int barrier) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(kRings * kWarpgroup) : "memory");
}

template <int kSideBySide, int kRings, int kTokens>
__global__ void __launch_bounds__(Shape<kSideBySide, kRings, kTokens>::kThreads, 1)
    gemm_int4_kernel(const __grid_constant__ CUtensorMap x_map, Int4Work work) {
  using S = Shape<kSideBySide, kRings, kTokens>;
  constexpr int kBatch = S::kBatch, kSteps = kInt4Inputs / 16;
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t full[kRings][kMostStages], empty[kRings][kMostStages];
  uint8_t* rings = memory + (1024 - shared_address(memory) % 1024) % 1024;
  const int ring_bytes = work.stages * work.stage_bytes;
  uint8_t* staging = rings + kRings * ring_bytes;
  auto* exchange = reinterpret_cast<float*>(staging + S::kStagingBytes);
  if (threadIdx.x < kRings * kMostStages) {
    init_barrier(&full[0][threadIdx.x], 1);
    init_barrier(&empty[0][threadIdx.x], 4 * kSideBySide);  // warps
  }
  publish_barriers();
  __syncthreads();
  let_next_kernel_start();

  if (threadIdx.x < kWarpgroup) {
    give_up_registers<kProducerRegisters<S::kGroups>>();
    const int ring = threadIdx.x / kWarpSize;
    if (ring < kRings && threadIdx.x % kWarpSize == 0) {
      prefetch_map(&x_map);
      const int begin = first_int4_chunk(ring * S::kParts, work.chunks);
      const int steps = first_int4_chunk((ring + 1) * S::kParts, work.chunks) - begin;
      const int blocks = gridDim.x;
      const int mine = (work.units - static_cast<int>(blockIdx.x) + blocks - 1) / blocks;
      const int loads = mine * steps;
      int unit, step, stage;
      uint32_t parity;
      const auto start = [&] {
        unit = blockIdx.x;
        step = stage = 0;
        parity = 1;  // of the phase before the first: an empty ring may be filled
      };
      const auto advance = [&] {
        if (++step == steps) {
          step = 0;
          unit += blocks;
        }
        if (++stage == work.stages) {
          stage = 0;
          parity ^= 1;
        }
      };
      const auto place = [&] { return rings + ring * ring_bytes + stage * work.stage_bytes; };
      const auto load_weights = [&] {
        uint64_t* barrier = &full[ring][stage];
        arrive_expecting(barrier,
                         static_cast<uint32_t>(S::kXBytes + kSideBySide * work.chunk_bytes));
#pragma unroll
        for (int o = 0; o < kSideBySide; ++o) {
          // Beyond the last tile nothing is stored: any weights do.
          const int tile = min(unit / work.token_tiles * kSideBySide + o, work.tiles - 1);
          copy_bytes(place() + S::kXBytes + o * work.chunk_bytes,
                     work.weights + tile * work.tile_bytes +
                         static_cast<int64_t>(begin + step) * work.chunk_bytes,
                     static_cast<uint32_t>(work.chunk_bytes), barrier);
        }
      };
      const auto load_x = [&] {
        uint64_t* barrier = &full[ring][stage];
        const int token = unit % work.token_tiles * kTokens;
        if (work.whole) {
          copy_tile(place(), &x_map, 0, token, 2 * (begin + step), barrier);
        } else {
          const int k = (begin + step) * kInt4Inputs;
          copy_tile(place(), &x_map, k, token, 0, barrier);
          copy_tile(place() + S::kXBytes / 2, &x_map, k + kInt4Inputs / 2, token, 0, barrier);
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
        wait(&empty[ring][stage], parity);
        load_weights();
        load_x();
        advance();
      }
    }
  } else {
    take_registers<kConsumerRegisters<S::kGroups>>();
    wait_for_previous_kernel();
    const int group = threadIdx.x / kWarpgroup - 1;
    const int ring = group / kSideBySide, beside = group % kSideBySide;
    const int thread = threadIdx.x % kWarpgroup;
    const int warp = thread / kWarpSize, lane = thread % kWarpSize, g = lane / 4;
    const int begin = ring * S::kParts;
    int stage = 0;
    uint32_t parity = 0;
    const auto advance = [&] {
      if (++stage == work.stages) {
        stage = 0;
        parity ^= 1;
      }
    };
    for (int unit = blockIdx.x; unit < work.units; unit += gridDim.x) {
      float total[kTokens / 2];
#pragma unroll
      for (float& value : total) value = 0;
      for (int part = begin; part < begin + S::kParts; ++part) {
        float sums[kTokens / 2];
        const int chunks =
            first_int4_chunk(part + 1, work.chunks) - first_int4_chunk(part, work.chunks);
        if (chunks == 0)
          for (float& sum : sums) sum = 0;
        int previous = -1;  // the stage whose products may still run
        uint32_t a[2][kBatch][4];
        for (int chunk = 0; chunk < chunks; ++chunk) {
          wait(&full[ring][stage], parity);
          const uint8_t* at = rings + ring * ring_bytes + stage * work.stage_bytes;
          const uint32_t x = tile_descriptor_low(at);
          const uint8_t* weights = at + S::kXBytes + beside * work.chunk_bytes;
          const auto* scales =
              reinterpret_cast<const uint32_t*>(weights + kInt4WordBytes) + warp * 8 + g;
#pragma unroll
          for (int batch = 0; batch < kSteps / kBatch; ++batch) {
            uint32_t(&to)[kBatch][4] = a[batch % 2];
            uint32_t word[kBatch];
            const auto* words = reinterpret_cast<const uint32_t*>(
                weights + batch * kBatch / 4 * (kInt4WordBytes / 2) + thread * 16);
#pragma unroll
            for (int s = 0; s < kBatch; s += 2)
              *reinterpret_cast<uint2*>(word + s) =
                  *reinterpret_cast<const uint2*>(words + batch * kBatch % 4 + s);
            // All but the latest products: those that read the same registers are done.
            wgmma_wait<1>();
            if (batch == 1 && previous >= 0 && lane == 0) arrive(&empty[ring][previous]);
#pragma unroll
            for (int s = 0; s < kBatch; s += 2) {
              const int index = (batch * kBatch + s) / 2 * work.groups / 4 * (kInt4GroupBytes / 4);
              const Int4Scale scale = spread(scales[index]);
              const Int4Scale offset =
                  work.offsets ? spread(scales[work.groups * (kInt4GroupBytes / 4) + index])
                               : Int4Scale{kSymmetricOffset, kSymmetricOffset};
              dequantize_int4(word[s], scale, offset, to[s]);
              dequantize_int4(word[s + 1], scale, offset, to[s + 1]);
            }
            wgmma_fence();
#pragma unroll
            for (int s = 0; s < kBatch; ++s) {
              const int step = batch * kBatch + s;
              wgmma_registers<kTokens>(
                  sums, to[s],
                  descriptor_from_low(x + step / 4 * (kTokens * kAtomBytes / 16) + step % 4 * 2),
                  chunk > 0 || step > 0);
            }
            wgmma_commit();
          }
          previous = stage;
          advance();
        }
        wgmma_wait<0>();
        if (previous >= 0 && lane == 0) arrive(&empty[ring][previous]);
#pragma unroll
        for (float& sum : sums) keep(sum);
        if (ring == 0) {
#pragma unroll
          for (int i = 0; i < kTokens / 2; ++i) total[i] += sums[i];
        } else {
          if (part == begin && unit != static_cast<int>(blockIdx.x)) sync_groups<kRings>(kTaken);
#pragma unroll
          for (int i = 0; i < kTokens / 2; ++i)
            exchange[(part - S::kParts) * S::kPartFloats + i * kWarpgroup + thread] = sums[i];
        }
      }
      if constexpr (kRings > 1) {
        sync_groups<kRings>(kGiven);
        if (ring > 0) continue;
        for (int part = 0; part < S::kOtherParts; ++part)
#pragma unroll
          for (int i = 0; i < kTokens / 2; ++i)
            total[i] += exchange[part * S::kPartFloats + i * kWarpgroup + thread];
        // The last unit's parts stay: nobody waits for the room.
        if (unit + static_cast<int>(gridDim.x) < work.units) sync_groups<kRings>(kTaken);
      }
      store_sums<kTokens, S::kPitch>(
          work, total, (unit / work.token_tiles * kSideBySide + beside) * kTile,
          unit % work.token_tiles * kTokens,
          reinterpret_cast<__nv_bfloat16*>(staging) + beside * kTokens * S::kPitch, beside + 1);
    }
  }
}

template <int kSideBySide, int kRings, int kTokens>
void launch_gemm_int4(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x,
                      int64_t rows, Output y, cudaStream_t stream) {
  using S = Shape<kSideBySide, kRings, kTokens>;
  const auto kernel = gemm_int4_kernel<kSideBySide, kRings, kTokens>;
  static const bool allowed = [&] {
    allow_shared_memory(kernel, kMemory);
    return true;
  }();
  (void)allowed;
  Int4Work work{};
  work.weights = weights.chunks;
  work.groups = kInt4Inputs / weights.group;
  work.offsets = weights.offsets;
  work.chunk_bytes = kInt4WordBytes + work.groups * kInt4GroupBytes * (weights.offsets ? 2 : 1);
  work.chunks = div_up(in, kInt4Inputs);
  work.tile_bytes = static_cast<int64_t>(work.chunks) * work.chunk_bytes;
  work.whole = whole_atoms(TensorMapType::bf16, in);
  work.rows = static_cast<int>(rows);
  work.out = static_cast<int>(out);
  work.tiles = div_up(out, kTile);
  work.token_tiles = div_up(rows, kTokens);
  work.units = div_up(out, kTile * kSideBySide) * work.token_tiles;
  work.stage_bytes = div_up(S::kXBytes + kSideBySide * work.chunk_bytes, 1024) * 1024;
  work.stages =
      std::min(kMostStages, (kMemory - 1024 - S::kExtraBytes) / (kRings * work.stage_bytes));
  work.y = y;
  const size_t bytes =
      1024 + static_cast<size_t>(kRings * work.stages * work.stage_bytes) + S::kExtraBytes;
  const CUtensorMap x_map = atoms_map(x, TensorMapType::bf16, in, rows, in * 2, kTokens, 2);
  launch(kernel, static_cast<unsigned>(std::min(work.units, processors())), S::kThreads, bytes,
         stream, x_map, work);
}

}  // namespace

// Picks the tile; it changes no bit of the result.
void gemm_int4(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x,
               int64_t rows, Output y, cudaStream_t stream) {
  if (rows == 0) return;
  const auto run = [&](auto launch) { launch(weights, out, in, x, rows, y, stream); };
  if (rows <= kSkinnyInt4Rows) return skinny_int4(weights, out, in, x, rows, y, stream);
  // Tiles that leave processors idle are narrower, and cut along the inputs.
  const auto busy = [&](int outs, int tokens) {
    return 4 * div_up(out, outs) * div_up(rows, tokens) >= 3 * processors();
  };
  if (rows <= 32)
    return busy(256, 32) ? run(launch_gemm_int4<4, 1, 32>) : run(launch_gemm_int4<1, 4, 32>);
  if (rows <= 64 && busy(256, 64)) return run(launch_gemm_int4<4, 1, 64>);
  // A round of tiles of 128 outputs and rows costs 2.1 rounds of tiles of 64.
  const auto rounds = [&](int outs, int tokens) {
    return div_up(int64_t{div_up(out, outs)} * div_up(rows, tokens), processors());
  };
  if (rows > 64 && 21 * rounds(128, 128) <= 10 * rounds(64, 64))
    return run(launch_gemm_int4<2, 1, 128>);
  run(launch_gemm_int4<1, 2, 64>);
}

}  // namespace narrow::ops::cuda
