// y = x Wᵀ for 4-bit weights on Hopper's tensor cores, from one row to thousands. Outputs stand
// along the 64 rows of a warpgroup's product and rows of x along its columns, because weights
// become bf16 in registers, which only that operand may come from. Producer warps keep rings of
// chunks (int4_layout.h) and of the rows of x beside them filled by the copy engine.
//
// An output is the sum of kInt4Parts contiguous parts of the inputs, added in their order; a part
// is one running sum. Few rows need many processors to read the weights: then warpgroups of a
// block, and blocks of a cluster, take parts each and exchange them through shared memory. With
// many rows one warpgroup walks all parts. The order is the same in both, and so are the bits.
#include <algorithm>

#include "ops/cuda/hopper.cuh"
#include "ops/cuda/int4.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/tensor_map.h"

namespace narrow::ops::cuda {
namespace {

constexpr int kInt4Parts = 8;
constexpr int kTile = kInt4Outs;                     // outputs of a warpgroup
constexpr int kWordBytes = kTile * kInt4Inputs / 2;  // of a chunk
constexpr int kGroupBytes = kTile * 2;               // scales of a group
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

__host__ __device__ inline int first_chunk(int part, int chunks) {
  return part * chunks / kInt4Parts;
}

// Registers of a thread where they are moved from the producers to kGroups warpgroups: together not
// more than the block is launched with, 168 or 96 a thread, or it would wait for them forever.
template <int kGroups>
inline constexpr int kConsumerRegisters = kGroups == 2 ? 232 : 112;
template <int kGroups>
inline constexpr int kProducerRegisters = kGroups == 2 ? 40 : 32;

// kSideBySide warpgroups have outputs of their own, kRings share them and take parts each, from a
// ring of their own.
template <int kSideBySide, int kRings, int kTokens>
struct Shape {
  static constexpr int kGroups = kSideBySide * kRings;
  static constexpr int kThreads = (kGroups + 1) * kWarpgroup;
  // Whether parts of an output are summed in several places.
  static constexpr bool kExchanges = kRings > 1;
  // Steps of sixteen inputs whose weights are made before they are multiplied; two such batches are
  // in registers at a time.
  static constexpr int kBatch = kTokens == 64 ? 2 : 4;
  // With few columns the instruction of a warp is faster than that of a warpgroup, whose operand in
  // registers takes its time whatever it is multiplied with; the bits are the same
  // (benchmarks/lab).
  static constexpr bool kByMma = kTokens <= 32;
  static constexpr int kXBytes = kTokens * kInt4Inputs * 2;
  static constexpr bool kMovesRegisters = kTokens >= 32;
  // Blocks of a cluster, and the outputs of a tile that one of them adds up and writes.
  static constexpr int kSplits = kExchanges ? 2 * kSideBySide : 1;
  static constexpr int kSlice = kTile * kSideBySide / kSplits;
  // Four more: the rows of two lanes' columns lie in other banks.
  static constexpr int kSlicePitch = kSlice + 4;
  static constexpr int kExchangeFloats = kInt4Parts * kTokens * kSlicePitch;
  static constexpr int kPitch = kTile + 8;  // of a tile that waits to be stored, in bf16
  // Two exchanges where there is room, so that one is added up while the parts of the next come in.
  static constexpr int kSlots = kTokens < 64 ? 2 : 1;
  static constexpr int kExchangeBytes =
      kExchanges ? kSlots * kExchangeFloats * 4 : kGroups * kTokens * kPitch * 2;
};

__device__ inline uint4 load_matrices(const void* row) {
  uint4 result;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(result.x), "=r"(result.y), "=r"(result.z), "=r"(result.w)
               : "r"(shared_address(row))
               : "memory");
  return result;
}

// A warp's sixteen outputs of a chunk, in steps of sixteen inputs as wgmma takes them.
template <int kTokens>
__device__ void multiply_chunk(const Int4Work& work, const uint8_t* x, const uint8_t* weights,
                               int thread, float (&sums)[kTokens / 2]) {
  const int lane = thread % kWarpSize, warp = thread / kWarpSize;
  const auto* scales =
      reinterpret_cast<const uint32_t*>(weights + kWordBytes) + warp * 8 + lane / 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint4 words =
        *reinterpret_cast<const uint4*>(weights + half * (kWordBytes / 2) + thread * 16);
    const uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int s = 0; s < 4; s += 2) {
      const int index = (2 * half + s / 2) * work.groups / 4 * (kGroupBytes / 4);
      const Int4Scale scale = spread(scales[index]);
      const Int4Scale offset = work.offsets
                                   ? spread(scales[work.groups * (kGroupBytes / 4) + index])
                                   : Int4Scale{kSymmetricOffset, kSymmetricOffset};
      uint32_t first[4], second[4];
      dequantize_int4(word[s], scale, offset, first);
      dequantize_int4(word[s + 1], scale, offset, second);
#pragma unroll
      for (int j = 0; j < kTokens / 8; ++j) {
        const int row = lane % 8, unit = 2 * s + lane / 8;
        const uint4 b = load_matrices(x + half * (kTokens * kAtomBytes) +
                                      (8 * j + row) * kAtomBytes + (unit ^ row) * 16);
        float(&sum)[4] = *reinterpret_cast<float(*)[4]>(&sums[4 * j]);
        mma_bf16(sum, first[0], first[1], first[2], first[3], b.x, b.y);
        mma_bf16(sum, second[0], second[1], second[2], second[3], b.z, b.w);
      }
    }
  }
}

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

// Adds up the parts of the outputs [out0, out0 + kSlice) in their order and writes them.
template <int kTokens, int kSlice, int kPitch, int kThreads>
__device__ void store_parts(const Int4Work& work, const float* in, int out0, int token0,
                            int thread) {
  const Output& y = work.y;
#pragma unroll 1
  for (int i = thread; i < kSlice * kTokens; i += kThreads) {
    const int token = i / kSlice, n = i % kSlice;
    if (token0 + token >= work.rows || out0 + n >= work.out) continue;
    float value = 0;
#pragma unroll
    for (int p = 0; p < kInt4Parts; ++p) value += in[(p * kTokens + token) * kPitch + n];
    if (y.bias) value += y.bias[out0 + n];
    const int64_t at = (token0 + token) * y.stride + out0 + n;
    if (y.f32) {
      static_cast<float*>(y.data)[at] = value;
    } else {
      static_cast<__nv_bfloat16*>(y.data)[at] = __float2bfloat16_rn(value);
    }
  }
}

template <int kSideBySide, int kRings, int kTokens>
__global__ void __launch_bounds__(Shape<kSideBySide, kRings, kTokens>::kThreads, 1)
    gemm_int4_kernel(const __grid_constant__ CUtensorMap x_map, Int4Work work) {
  using S = Shape<kSideBySide, kRings, kTokens>;
  constexpr int kBatch = S::kBatch, kSteps = kInt4Inputs / 16;
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t full[kRings][kMostStages], empty[kRings][kMostStages];
  // Of the two exchanges: parts that came in; room for the next ones.
  __shared__ uint64_t arrived[2], drained[2];
  uint8_t* rings = memory + (1024 - shared_address(memory) % 1024) % 1024;
  const int ring_bytes = work.stages * work.stage_bytes;
  uint8_t* exchange = rings + kRings * ring_bytes;
  const int rank = S::kExchanges ? cluster_rank() : 0;
  const int cluster = blockIdx.x / S::kSplits, clusters = gridDim.x / S::kSplits;
  if (threadIdx.x < kRings * kMostStages) {
    init_barrier(&full[0][threadIdx.x], 1);
    init_barrier(&empty[0][threadIdx.x], 4 * kSideBySide);  // warps
  } else if (threadIdx.x < kRings * kMostStages + 2) {
    const int i = threadIdx.x - kRings * kMostStages;
    init_barrier(&arrived[i], S::kSlice / 16 * kRings * S::kSplits);
    init_barrier(&drained[i], S::kGroups * 4 * S::kSplits);
  }
  publish_barriers();
  __syncthreads();
  if constexpr (S::kExchanges) cluster_sync();
  let_next_kernel_start();

  constexpr int parts = kInt4Parts / (kRings * S::kSplits);  // of a ring
  const auto ring_part = [&](int ring) { return (rank * kRings + ring) * parts; };

  if (threadIdx.x < kWarpgroup) {
    if constexpr (S::kMovesRegisters) give_up_registers<kProducerRegisters<S::kGroups>>();
    const int ring = threadIdx.x / kWarpSize;
    if (ring < kRings && threadIdx.x % kWarpSize == 0) {
      prefetch_map(&x_map);
      const int begin = first_chunk(ring_part(ring), work.chunks);
      const int steps = first_chunk(ring_part(ring) + parts, work.chunks) - begin;
      const int mine = cluster < work.units ? (work.units - cluster + clusters - 1) / clusters : 0;
      const int loads = mine * steps;
      int unit, step, stage;
      uint32_t parity;
      const auto start = [&] {
        unit = cluster;
        step = stage = 0;
        parity = 1;  // of the phase before the first: an empty ring may be filled
      };
      const auto advance = [&] {
        if (++step == steps) {
          step = 0;
          unit += clusters;
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
    if constexpr (S::kMovesRegisters) take_registers<kConsumerRegisters<S::kGroups>>();
    wait_for_previous_kernel();
    const int group = threadIdx.x / kWarpgroup - 1;
    const int ring = group / kSideBySide, beside = group % kSideBySide;
    const int thread = threadIdx.x % kWarpgroup;
    const int warp = thread / kWarpSize, lane = thread % kWarpSize, g = lane / 4, t = lane % 4;
    const int begin = ring_part(ring);
    int stage = 0;
    uint32_t parity = 0;
    const auto advance = [&] {
      if (++stage == work.stages) {
        stage = 0;
        parity ^= 1;
      }
    };
    [[maybe_unused]] int pending = -1;   // in the exchange: the unit before this one
    [[maybe_unused]] uint32_t turn = 0;  // of units so far
    [[maybe_unused]] const auto add_up = [&](int unit, uint32_t of_turn) {
      wait_in_cluster(&arrived[of_turn % S::kSlots], of_turn / S::kSlots % 2);
      store_parts<kTokens, S::kSlice, S::kSlicePitch, S::kGroups * kWarpgroup>(
          work, reinterpret_cast<const float*>(exchange) + of_turn % S::kSlots * S::kExchangeFloats,
          unit / work.token_tiles * kSideBySide * kTile + rank * S::kSlice,
          unit % work.token_tiles * kTokens, threadIdx.x - kWarpgroup);
      __syncwarp();
      if (lane < S::kSplits) arrive_in_cluster(address_in(&drained[of_turn % S::kSlots], lane));
    };
    for (int unit = cluster; unit < work.units; unit += clusters) {
      [[maybe_unused]] float total[S::kExchanges ? 1 : kTokens / 2];
      if constexpr (!S::kExchanges)
        for (float& value : total) value = 0;
      for (int part = begin; part < begin + parts; ++part) {
        float sums[kTokens / 2];
        const int chunks = first_chunk(part + 1, work.chunks) - first_chunk(part, work.chunks);
        if (chunks == 0)
          for (float& sum : sums) sum = 0;
        if constexpr (S::kByMma) {
          for (float& sum : sums) sum = 0;
          for (int chunk = 0; chunk < chunks; ++chunk) {
            wait(&full[ring][stage], parity);
            const uint8_t* at = rings + ring * ring_bytes + stage * work.stage_bytes;
            multiply_chunk<kTokens>(work, at, at + S::kXBytes + beside * work.chunk_bytes, thread,
                                    sums);
            __syncwarp();
            if (lane == 0) arrive(&empty[ring][stage]);
            advance();
          }
        } else {
          int previous = -1;  // the stage whose products may still run
          uint32_t a[2][kBatch][4];
          for (int chunk = 0; chunk < chunks; ++chunk) {
            wait(&full[ring][stage], parity);
            const uint8_t* at = rings + ring * ring_bytes + stage * work.stage_bytes;
            const uint32_t x = tile_descriptor_low(at);
            const uint8_t* weights = at + S::kXBytes + beside * work.chunk_bytes;
            const auto* scales =
                reinterpret_cast<const uint32_t*>(weights + kWordBytes) + warp * 8 + g;
#pragma unroll
            for (int batch = 0; batch < kSteps / kBatch; ++batch) {
              uint32_t(&to)[kBatch][4] = a[batch % 2];
              uint32_t word[kBatch];
              const auto* words = reinterpret_cast<const uint32_t*>(
                  weights + batch * kBatch / 4 * (kWordBytes / 2) + thread * 16);
#pragma unroll
              for (int s = 0; s < kBatch; s += 2)
                *reinterpret_cast<uint2*>(word + s) =
                    *reinterpret_cast<const uint2*>(words + batch * kBatch % 4 + s);
              // All but the latest products: those that read the same registers are done.
              wgmma_wait<1>();
              if (batch == 1 && previous >= 0 && lane == 0) arrive(&empty[ring][previous]);
#pragma unroll
              for (int s = 0; s < kBatch; s += 2) {
                const int index = (batch * kBatch + s) / 2 * work.groups / 4 * (kGroupBytes / 4);
                const Int4Scale scale = spread(scales[index]);
                const Int4Scale offset =
                    work.offsets ? spread(scales[work.groups * (kGroupBytes / 4) + index])
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
        }
        if constexpr (S::kExchanges) {
          if (part == begin) wait_in_cluster(&drained[turn % S::kSlots], turn / S::kSlots % 2 ^ 1);
          // To the block that writes these outputs: [part][row of x][output].
          const int row = kTile * beside + 16 * warp;
          const uint32_t to =
              address_in(exchange, row / S::kSlice) +
              4 * (turn % S::kSlots * S::kExchangeFloats + part * kTokens * S::kSlicePitch +
                   row % S::kSlice + g + 2 * t * S::kSlicePitch);
#pragma unroll
          for (int i = 0; i < kTokens / 2; ++i)
            store_in_cluster(to + 4 * ((8 * (i / 4) + i % 2) * S::kSlicePitch + 8 * (i % 4 / 2)),
                             sums[i]);
        } else {
#pragma unroll
          for (int i = 0; i < kTokens / 2; ++i) total[i] += sums[i];
        }
      }
      if constexpr (S::kExchanges) {
        __syncwarp();
        if (lane == 0)
          arrive_in_cluster(
              address_in(&arrived[turn % S::kSlots], (kTile * beside + 16 * warp) / S::kSlice));
        if constexpr (S::kSlots == 1) {
          add_up(unit, turn);
        } else {
          // The parts of this unit travel while the next one is multiplied.
          if (pending >= 0) add_up(pending, turn - 1);
          pending = unit;
        }
        ++turn;
      } else {
        store_sums<kTokens, S::kPitch>(
            work, total, (unit / work.token_tiles * kSideBySide + beside) * kTile,
            unit % work.token_tiles * kTokens,
            reinterpret_cast<__nv_bfloat16*>(exchange) + group * kTokens * S::kPitch, group + 1);
      }
    }
    if constexpr (S::kExchanges && S::kSlots > 1)
      if (pending >= 0) add_up(pending, turn - 1);
  }
  // No block of a cluster may end while another can still write to it.
  if constexpr (S::kExchanges) {
    __syncwarp();
    cluster_sync();
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
  work.chunk_bytes = kWordBytes + work.groups * kGroupBytes * (weights.offsets ? 2 : 1);
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
      std::min(kMostStages, (kMemory - 1024 - S::kExchangeBytes) / (kRings * work.stage_bytes));
  work.y = y;
  const size_t bytes =
      1024 + static_cast<size_t>(kRings * work.stages * work.stage_bytes) + S::kExchangeBytes;
  static const int clusters = clusters_at_once(S::kSplits, kernel, S::kThreads, kMemory);
  const CUtensorMap x_map = atoms_map(x, TensorMapType::bf16, in, rows, in * 2, kTokens, 2);
  launch_clusters(S::kSplits, kernel,
                  static_cast<unsigned>(std::min(work.units, clusters) * S::kSplits), S::kThreads,
                  bytes, stream, x_map, work);
}

}  // namespace

// Picks the tile; it changes no bit of the result.
void gemm_int4(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x,
               int64_t rows, Output y, cudaStream_t stream) {
  if (rows == 0) return;
  const auto run = [&](auto launch) { launch(weights, out, in, x, rows, y, stream); };
  if (rows <= 8) return run(launch_gemm_int4<1, 4, 8>);
  if (rows <= 16) return run(launch_gemm_int4<1, 4, 16>);
  // Outputs in tiles that leave most processors idle are split along the inputs.
  const auto busy = [&](int outs, int tokens) {
    return 4 * div_up(out, outs) * div_up(rows, tokens) >= 3 * processors();
  };
  if (rows <= 32)
    return busy(256, 32) ? run(launch_gemm_int4<4, 1, 32>) : run(launch_gemm_int4<2, 2, 32>);
  if (rows <= 64)
    return busy(256, 64) ? run(launch_gemm_int4<4, 1, 64>) : run(launch_gemm_int4<2, 2, 64>);
  busy(128, 128) ? run(launch_gemm_int4<2, 1, 128>) : run(launch_gemm_int4<2, 2, 64>);
}

}  // namespace narrow::ops::cuda
