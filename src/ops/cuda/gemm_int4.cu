// y = x Wᵀ for 4-bit weights on Hopper's tensor cores, from some rows to thousands
// (int4_tiles.cuh). A warpgroup sums the parts of the inputs (int4.cuh) of its tile one after the
// other and adds them in their order. Where that leaves processors idle, gemm_int4_split.cu has the
// parts summed side by side; the bits are the same.
#include "ops/cuda/int4_tiles.cuh"
#include "ops/cuda/rows.cuh"

namespace narrow::ops::cuda {
namespace {

// kGated: of the two warpgroups one has tiles of gate, the other those of up.
template <int kSideBySide, int kTokens, bool kGated>
struct Whole : Int4Shape<kSideBySide, 1, kTokens, kSideBySide == 4 && kTokens == 64 ? 2 : 4> {
  static constexpr int kPitch = kInt4Outs + 8;  // of a tile that waits to be stored, in bf16
  static constexpr int kStagingBytes = kSideBySide * kTokens * kPitch * 2;
};

// Of a thread's two outputs of a tile, n0 and n0 + 8: asked for before the tile is multiplied.
struct OutputTerms {
  float scale[2] = {0, 0}, bias[2] = {0, 0};

  __device__ OutputTerms(const Int4Work& work, int column) {
#pragma unroll
    for (int i = 0; i < 2; ++i, column += 8) {
      if (column >= work.out) continue;
      scale[i] = __ldg(work.scale + column);
      if (work.y.bias) bias[i] = __ldg(work.y.bias + column);
    }
  }
};

// A thread's sums of a tile (add_int4_part()), and what they become.
template <int kTokens>
struct TileSums {
  const float (&sums)[kTokens / 2];
  const OutputTerms& terms;
  __device__ float value(int i) const {
    return fmaf(sums[i], terms.scale[i % 4 / 2], terms.bias[i % 4 / 2]);
  }
};

// Rounds a warpgroup's tile to its staging memory, as [tokens][kPitch]: sixteen tokens by a warp's
// sixteen outputs at a time, of which lane l says where eight outputs of one token go.
template <int kTokens, int kPitch>
__device__ void stage_sums(const TileSums<kTokens>& of, __nv_bfloat16* staging) {
  const int thread = threadIdx.x % kWarpgroup, lane = thread % kWarpSize;
  __nv_bfloat16* const place =
      staging + (lane / 16 * 8 + lane % 8) * kPitch + thread / kWarpSize * 16 + lane / 8 % 2 * 8;
#pragma unroll
  for (int i = 0; i < kTokens / 2; i += 8) {
    uint32_t words[4];
#pragma unroll
    for (int w = 0; w < 4; ++w) words[w] = pack_bf16(of.value(i + 2 * w), of.value(i + 2 * w + 1));
    store_matrices_transposed(place + 2 * i * kPitch, words);
  }
}

// Writes a warpgroup's tile through its staging memory, so that rows of y are written in pieces of
// 128 bytes. n0: the thread's first output of the tile.
template <int kTokens, int kPitch>
__device__ void store_sums(const Int4Work& work, const TileSums<kTokens>& of, int out0, int n0,
                           int token0, __nv_bfloat16* staging, int barrier) {
  const int thread = threadIdx.x % kWarpgroup, t = thread % 4;
  const Output& y = work.y;
  if (y.f32) {
#pragma unroll
    for (int i = 0; i < kTokens / 2; ++i) {
      const int token = token0 + 8 * (i / 4) + 2 * t + i % 2, n = out0 + n0 + 8 * (i % 4 / 2);
      if (token < work.rows && n < work.out)
        static_cast<float*>(y.data)[token * y.stride + n] = of.value(i);
    }
    return;
  }
  stage_sums<kTokens, kPitch>(of, staging);
  asm volatile("bar.sync %0, 128;" ::"r"(barrier) : "memory");
  auto* to = static_cast<__nv_bfloat16*>(y.data);
  const int tokens = min(kTokens, work.rows - token0);
  if (out0 + kInt4Outs <= work.out && y.stride % 8 == 0 &&
      reinterpret_cast<uintptr_t>(to) % 16 == 0) {
    for (int i = thread; i < tokens * kInt4Outs / 8; i += kWarpgroup) {
      const int token = i / (kInt4Outs / 8), n = i % (kInt4Outs / 8) * 8;
      *reinterpret_cast<uint4*>(to + (token0 + token) * y.stride + out0 + n) =
          *reinterpret_cast<const uint4*>(staging + token * kPitch + n);
    }
  } else {
    for (int i = thread; i < tokens * kInt4Outs; i += kWarpgroup) {
      const int token = i / kInt4Outs, n = i % kInt4Outs;
      if (out0 + n < work.out)
        to[(token0 + token) * y.stride + out0 + n] = staging[token * kPitch + n];
    }
  }
  asm volatile("bar.sync %0, 128;" ::"r"(barrier) : "memory");
}

// Of two warpgroups, the first of which has a tile of gate and the second one of up. staging: of
// both. thread: of both.
template <int kTokens, int kPitch>
__device__ void store_activated(const Int4Work& work, const TileSums<kTokens>& of, int out0,
                                int token0, __nv_bfloat16* staging, int thread) {
  constexpr int kPieces = kInt4Outs / 8, kBarrier = 3;
  const auto sync = [] {
    asm volatile("bar.sync %0, %1;" ::"n"(kBarrier), "n"(2 * kWarpgroup) : "memory");
  };
  stage_sums<kTokens, kPitch>(of, staging + thread / kWarpgroup * kTokens * kPitch);
  sync();
  auto* to = static_cast<__nv_bfloat16*>(work.y.data);
  const int tokens = min(kTokens, work.rows - token0);
  for (int i = thread; i < tokens * kPieces; i += 2 * kWarpgroup) {
    const int token = i / kPieces, n = i % kPieces * 8;
    const __nv_bfloat16* const gate = staging + token * kPitch + n;
    silu_mul<8>(gate, gate + kTokens * kPitch)
        .store(to + (token0 + token) * work.y.stride + out0 + n);
  }
  sync();
}

template <int kSideBySide, int kTokens, bool kGated, Int4Kind kKind>
__global__ void __launch_bounds__(Whole<kSideBySide, kTokens, kGated>::kThreads, 1)
    gemm_int4_kernel(const __grid_constant__ CUtensorMap x_map, Int4Work work) {
  using S = Whole<kSideBySide, kTokens, kGated>;
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t full[kInt4MostStages], empty[kInt4MostStages];
  const Int4Ring ring = {memory + (1024 - shared_address(memory) % 1024) % 1024, full, empty};
  auto* staging = reinterpret_cast<__nv_bfloat16*>(ring.memory + work.stages * work.stage_bytes);
  if (threadIdx.x < kInt4MostStages) {
    init_barrier(&full[threadIdx.x], 1);
    init_barrier(&empty[threadIdx.x], 4 * kSideBySide);  // warps
  }
  publish_barriers();
  __syncthreads();

  if (threadIdx.x < kWarpgroup) {
    give_up_registers<S::kProducerRegisters>();
    if (threadIdx.x == 0)
      fill_int4_ring<S>(x_map, work, ring, 0, work.chunks, static_cast<int>(blockIdx.x));
  } else {
    take_registers<S::kConsumerRegisters>();
    wait_for_previous_kernel();
    let_next_kernel_start();
    const int beside = warpgroup() - 1;
    StagePlace at;
    const int n0 = static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize * 16 +
                   static_cast<int>(threadIdx.x) % kWarpSize / 4;
    for (Int4Place of(work, static_cast<int>(blockIdx.x)); of.unit < work.units; of.advance(work)) {
      const int out0 = (of.tile + beside * work.to_next_group) * kInt4Outs;
      const int token0 = of.token_tile * kTokens;
      const OutputTerms terms(work, out0 + n0);
      float total[kTokens / 2];
#pragma unroll
      for (float& value : total) value = 0;
      for (int part = 0; part < kInt4Parts; ++part) {
        float sums[kTokens / 2];
        const int chunks =
            first_int4_chunk(part + 1, work.chunks) - first_int4_chunk(part, work.chunks);
        add_int4_part<S, kKind>(work, ring, at, chunks, beside, sums);
#pragma unroll
        for (int i = 0; i < kTokens / 2; ++i) total[i] += sums[i];
      }
      if constexpr (kGated) {
        store_activated<kTokens, S::kPitch>(work, {total, terms}, of.tile * kInt4Outs, token0,
                                            staging, static_cast<int>(threadIdx.x) - kWarpgroup);
      } else {
        store_sums<kTokens, S::kPitch>(work, {total, terms}, out0, n0, token0,
                                       staging + beside * kTokens * S::kPitch, beside + 1);
      }
    }
  }
}

template <int kSideBySide, int kTokens, bool kGated = false>
void run(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x, int64_t rows,
         Output y, cudaStream_t stream) {
  using S = Whole<kSideBySide, kTokens, kGated>;
  constexpr decltype(&gemm_int4_kernel<kSideBySide, kTokens, kGated, Int4Kind::any>) kernels[] = {
      gemm_int4_kernel<kSideBySide, kTokens, kGated, Int4Kind::symmetric>,
      gemm_int4_kernel<kSideBySide, kTokens, kGated, Int4Kind::asymmetric>,
      gemm_int4_kernel<kSideBySide, kTokens, kGated, Int4Kind::any>};
  Int4Work work = describe_int4<S>(weights, out, in, rows, y, S::kStagingBytes);
  if (kGated) {
    work.to_next_unit = 1;
    work.to_next_group = work.tiles / 2;
  }
  work.step = std::min(work.units, processors());
  work.step_tiles = work.step / work.token_tiles * work.to_next_unit;
  work.step_token_tiles = work.step % work.token_tiles;
  launch_int4<S>(kernels, 1, work.step, work, weights, in, x, S::kStagingBytes, stream);
}

}  // namespace

// Picks the tile; it changes no bit of the result. What a round of tiles takes, one on each
// processor: microseconds that H200s took for 4096 and 14336 inputs (docs/performance/products.md).
void gemm_int4(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x,
               int64_t rows, Output y, cudaStream_t stream) {
  if (rows == 0) return;
  if (rows <= kSkinnyInt4Rows) return skinny_int4(weights, out, in, x, rows, y, stream);
  const int chunks = div_up(in, kInt4Inputs);
  const auto time = [&](int outs, int tokens, int blocks, double once, double of_chunk) {
    const int64_t tiles = int64_t{div_up(out, outs)} * div_up(rows, tokens);
    return static_cast<double>(div_up(tiles * blocks, processors())) * (once + of_chunk * chunks);
  };
  const int tokens = rows <= 32 ? 32 : 64;
  const bool few = tokens == 32;
  const double in_one = few ? time(64, 32, 1, 2.9, 0.155) : time(64, 64, 1, 3.3, 0.249);
  const double in_two = few ? time(64, 32, 2, 6.1, 0.08) : time(64, 64, 2, 5.4, 0.159);
  const double of_128 = time(128, 128, 1, 5.1, 0.58), of_64 = time(128, 64, 1, 2.8, 0.42);
  const double whole = rows > 64 ? std::min(of_128, of_64)
                       : few     ? time(256, 32, 1, 4, 0.71)
                                 : time(256, 64, 1, 4, 0.89);
  if (whole > std::min(in_one, in_two))
    return split_int4(tokens, in_one <= in_two ? 1 : 2, weights, out, in, x, rows, y, stream);
  const auto run_whole = rows > 64 ? (of_64 < of_128 ? run<2, 64> : run<2, 128>)
                         : few     ? run<4, 32>
                                   : run<4, 64>;
  run_whole(weights, out, in, x, rows, y, stream);
}

void gated_int4(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x,
                int64_t rows, Output y, cudaStream_t stream) {
  if (rows > 0) run<2, 128, true>(weights, 2 * out, in, x, rows, y, stream);
}

}  // namespace narrow::ops::cuda
