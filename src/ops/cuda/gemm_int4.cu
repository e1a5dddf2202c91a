// y = x Wᵀ for 4-bit weights on Hopper's tensor cores, from some rows to thousands
// (int4_tiles.cuh). A warpgroup sums the parts of the inputs (int4.cuh) of its tile one after the
// other and adds them in their order. Where that leaves processors idle, gemm_int4_split.cu has the
// parts summed side by side; the bits are the same.
#include <algorithm>
#include <initializer_list>

#include "ops/cuda/int4_sums.cuh"
#include "ops/cuda/output.cuh"
#include "ops/cuda/packed.cuh"

namespace narrow::ops::cuda {
namespace {

// Tiles wait to be stored whole, or, where that would cost the ring a stage, in pieces of so many
// tokens.
template <int kTokens>
constexpr int kStagedTokens = kTokens <= 128 ? kTokens : 64;
constexpr int kBoxTokens = 32;  // of what the copy engine takes from there at a time

// kGated: of the two warpgroups one has tiles of gate, the other those of up.
template <int kSideBySide, int kTokens, bool kGated>
struct Whole : Int4Shape<kSideBySide, 1, kTokens, kSideBySide == 4 && kTokens == 64 ? 2 : 4> {
  static constexpr int kStagingBytes = kSideBySide * kStagedTokens<kTokens> * kInt4Outs * 2;
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

// Calls store.template operator()<first, count>() for all tokens of a tile, kStagedTokens at a
// time.
template <int kTokens, int kFirst = 0, class Store>
__device__ void for_staged_tokens(Store store) {
  constexpr int kLeft = kTokens - kFirst;
  constexpr int kCount = kLeft < kStagedTokens<kTokens> ? kLeft : kStagedTokens<kTokens>;
  store.template operator()<kFirst, kCount>();
  if constexpr (kFirst + kCount < kTokens) for_staged_tokens<kTokens, kFirst + kCount>(store);
}

// Where eight outputs of a token lie in staging memory: as the copy engine's swizzle of 128 bytes
// has it.
__device__ inline __nv_bfloat16* staged_piece(__nv_bfloat16* staging, int token, int piece) {
  return staging + token * kInt4Outs + (piece ^ token % 8) * 8;
}

// Rounds kCount tokens of a warpgroup's tile, from kFirst on, to its staging memory: sixteen tokens
// by a warp's sixteen outputs at a time, of which lane l says where eight outputs of one token go.
template <int kFirst, int kCount, int kTokens>
__device__ void stage_sums(const TileSums<kTokens>& of, __nv_bfloat16* staging) {
  const int thread = threadIdx.x % kWarpgroup, lane = thread % kWarpSize;
  __nv_bfloat16* const place =
      staged_piece(staging, lane / 16 * 8 + lane % 8, thread / kWarpSize * 2 + lane / 8 % 2);
#pragma unroll
  for (int i = 0; i < kCount / 2; i += 8) {
    uint32_t words[4];
#pragma unroll
    for (int w = 0; w < 4; ++w)
      words[w] = pack_bf16(of.value(kFirst / 2 + i + 2 * w), of.value(kFirst / 2 + i + 2 * w + 1));
    store_matrices_transposed(place + 2 * i * kInt4Outs, words);
  }
}

// Writes a warpgroup's tile: y in float32 at once, in bf16 by way of staging memory, from where the
// copy engine takes it in whole pieces. n0: the thread's first output of the tile.
template <int kTokens>
__device__ void store_sums(const CUtensorMap& y_map, const Int4Work& work,
                           const TileSums<kTokens>& of, int out0, int n0, int token0,
                           __nv_bfloat16* staging, int barrier) {
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
  const auto sync = [&] { sync_threads<kWarpgroup>(barrier); };
  for_staged_tokens<kTokens>([&]<int kFirst, int kCount>() {
    if (thread == 0) wait_for_reads<0>();
    sync();
    stage_sums<kFirst, kCount>(of, staging);
    publish_to_async();
    sync();
    if (work.stages_y) {
      if (thread > 0 || out0 >= work.out) return;
#pragma unroll
      for (int t0 = 0; t0 < kCount; t0 += kBoxTokens) {
        const uint32_t from = shared_address(staging + t0 * kInt4Outs);
        copy_tile_out(&y_map, y.adds, out0, token0 + kFirst + t0, from);
      }
      close_copies();
      return;
    }
    const int tokens = min(kCount, work.rows - token0 - kFirst);
#pragma unroll 1  // hardly ever chosen, and not worth the registers
    for (int i = thread; i < tokens * kInt4Outs; i += kWarpgroup) {
      const int token = i / kInt4Outs, n = i % kInt4Outs;
      if (out0 + n < work.out)
        store_number(y, token0 + kFirst + token, out0 + n,
                     __bfloat162float(staged_piece(staging, token, n / 8)[n % 8]));
    }
  });
}

// By one thread: asks for what a unit's tiles will be added to (gemm_staging.cuh).
template <int kSideBySide, int kTokens>
__device__ void prefetch_sums(const CUtensorMap& y_map, const Int4Work& work, const Int4Place& of) {
#pragma unroll
  for (int beside = 0; beside < kSideBySide; ++beside) {
    const int out0 = (of.tile + beside) * kInt4Outs;
    if (out0 >= work.out) return;
    for (int t0 = 0; t0 < kTokens; t0 += kBoxTokens)
      prefetch_tile(&y_map, out0, of.token_tile * kTokens + t0);
  }
}

// Of two warpgroups, the first of which has a tile of gate and the second one of up. staging: of
// both. thread: of both.
template <int kTokens>
__device__ void store_activated(const Int4Work& work, const TileSums<kTokens>& of, int out0,
                                int token0, __nv_bfloat16* staging, int thread) {
  constexpr int kPieces = kInt4Outs / 8, kBarrier = 3;
  constexpr int kGroupNumbers = kStagedTokens<kTokens> * kInt4Outs;
  const auto sync = [] { sync_threads<2 * kWarpgroup>(kBarrier); };
  auto* const to = static_cast<__nv_bfloat16*>(work.y.data);
  for_staged_tokens<kTokens>([&]<int kFirst, int kCount>() {
    stage_sums<kFirst, kCount>(of, staging + thread / kWarpgroup * kGroupNumbers);
    sync();
    const int tokens = min(kCount, work.rows - token0 - kFirst);
    for (int i = thread; i < tokens * kPieces; i += 2 * kWarpgroup) {
      const int token = i / kPieces, piece = i % kPieces;
      const __nv_bfloat16* const gate = staged_piece(staging, token, piece);
      silu_mul<8>(gate, gate + kGroupNumbers)
          .store(to + (token0 + kFirst + token) * work.y.stride + out0 + piece * 8);
    }
    sync();
  });
}

template <int kSideBySide, int kTokens, bool kGated, Int4Kind kKind>
__global__ void __launch_bounds__(Whole<kSideBySide, kTokens, kGated>::kThreads, 1)
    gemm_int4_kernel(const __grid_constant__ Int4XMaps x_maps,
                     const __grid_constant__ CUtensorMap y_map, Int4Work work) {
  using S = Whole<kSideBySide, kTokens, kGated>;
  NARROW_BLOCK_BYTES(memory);
  __shared__ uint64_t full[kInt4MostStages], empty[kInt4MostStages];
  const Int4Ring ring = {memory + to_first_tile(memory), full, empty};
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
      fill_int4_ring<S>(x_maps, work, ring, 0, work.chunks, static_cast<int>(blockIdx.x),
                        [&](const Int4Place& of) {
                          if (!kGated && work.stages_y && work.y.adds)
                            prefetch_sums<kSideBySide, kTokens>(y_map, work, of);
                        });
  } else {
    take_registers<S::kConsumerRegisters>();
    wait_for_previous_kernel();
    let_next_kernel_start();
    const int beside = warpgroup() - 1;
    const int n0 = static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize * 16 +
                   static_cast<int>(threadIdx.x) % kWarpSize / 4;
    // multiply(last, totals): of the next tile, which is perhaps the block's last.
    const auto for_tiles = [&](auto multiply) {
      for (Int4Place of(work, static_cast<int>(blockIdx.x)); of.unit < work.units;
           of.advance(work)) {
        const int out0 = (of.tile + beside * work.to_next_group) * kInt4Outs;
        const int token0 = of.token_tile * kTokens;
        const OutputTerms terms(work, out0 + n0);
        float total[kTokens / 2];
        multiply(of.unit + work.step >= work.units, total);
        if constexpr (kGated) {
          store_activated<kTokens>(work, {total, terms}, of.tile * kInt4Outs, token0, staging,
                                   static_cast<int>(threadIdx.x) - kWarpgroup);
        } else {
          store_sums<kTokens>(y_map, work, {total, terms}, out0, n0, token0,
                              staging + beside * kStagedTokens<kTokens> * kInt4Outs, beside + 1);
        }
      }
    };
    if constexpr (kTokens > 128) {
      Int4Sums<S, kKind> sums(work, ring, beside);
      for_tiles([&](bool last, float(&total)[kTokens / 2]) { sums.add_tile(last, total); });
      sums.finish();
    } else {
      StagePlace at;
      for_tiles([&](bool, float(&total)[kTokens / 2]) {
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
      });
    }
    if constexpr (!kGated) wait_for_copies_out();
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
  CUtensorMap y_map{};
  work.stages_y = !kGated && !y.f32 && has_whole_pieces(out, y);
  if (work.stages_y) y_map = rows_map(y.data, out, rows, 2 * y.stride, kInt4Outs, kBoxTokens);
  launch_int4<S>(kernels, 1, work.step, work, weights, in, x, S::kStagingBytes, stream, y_map);
}

// What the rounds of tiles take, one on each processor: microseconds that H200s took for 4096 and
// 14336 inputs (docs/performance/products.md).
double time_of_tiles(int64_t out, int64_t in, int64_t rows, int outs, int tokens, int blocks,
                     double once, double of_chunk) {
  const int64_t tiles = int64_t{div_up(out, outs)} * div_up(rows, tokens);
  return static_cast<double>(div_up(tiles * blocks, processors())) *
         (once + of_chunk * div_up(in, kInt4Inputs));
}

// The same of the tiles of many rows, which have 128 outputs.
double time_of_tokens(int64_t out, int64_t in, int64_t rows, int tokens) {
  const auto time = [&](double once, double of_chunk) {
    return time_of_tiles(out, in, rows, 128, tokens, 1, once, of_chunk);
  };
  return tokens == 64 ? time(2.8, 0.42) : tokens == 128 ? time(5.1, 0.58) : time(5.8, 0.674);
}

// Picks the tile of more than kFewInt4Rows rows.
int best_tokens(int64_t out, int64_t in, int64_t rows, std::initializer_list<int> tokens) {
  return std::min(tokens, [&](int a, int b) {
    return time_of_tokens(out, in, rows, a) < time_of_tokens(out, in, rows, b);
  });
}

}  // namespace

// Picks the tile; it changes no bit of the result.
void gemm_int4(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x,
               int64_t rows, Output y, cudaStream_t stream) {
  if (rows == 0) return;
  if (rows <= kSkinnyInt4Rows) return skinny_int4(weights, out, in, x, rows, y, stream);
  const auto time = [&](int outs, int tokens, int blocks, double once, double of_chunk) {
    return time_of_tiles(out, in, rows, outs, tokens, blocks, once, of_chunk);
  };
  const int tokens = rows <= 32 ? 32 : 64;
  const bool few = tokens == 32;
  const double in_one = few ? time(64, 32, 1, 2.9, 0.155) : time(64, 64, 1, 3.3, 0.249);
  const double in_two = few ? time(64, 32, 2, 6.1, 0.08) : time(64, 64, 2, 5.4, 0.159);
  const bool many = rows > kFewInt4Rows;
  const int tokens_of_many = best_tokens(out, in, rows, {64, 128, 160});
  const double whole = many  ? time_of_tokens(out, in, rows, tokens_of_many)
                       : few ? time(256, 32, 1, 4, 0.71)
                             : time(256, 64, 1, 4, 0.89);
  if (whole > std::min(in_one, in_two))
    return split_int4(tokens, in_one <= in_two ? 1 : 2, weights, out, in, x, rows, y, stream);
  const auto run_many = tokens_of_many == 64    ? run<2, 64>
                        : tokens_of_many == 128 ? run<2, 128>
                                                : run<2, 160>;
  const auto run_whole = many ? run_many : few ? run<4, 32> : run<4, 64>;
  run_whole(weights, out, in, x, rows, y, stream);
}

void gated_int4(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x,
                int64_t rows, Output y, cudaStream_t stream) {
  if (rows == 0) return;
  const bool wide = best_tokens(2 * out, in, rows, {128, 160}) == 160;
  (wide ? run<2, 160, true> : run<2, 128, true>)(weights, 2 * out, in, x, rows, y, stream);
}

}  // namespace narrow::ops::cuda
