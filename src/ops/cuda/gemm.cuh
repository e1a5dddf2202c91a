// y = x Wᵀ on Hopper's tensor cores, from one row to thousands. Two threads keep a ring of tiles in
// shared memory filled by the copy engine (gemm_loads.cuh); one or two warpgroups of 64 rows of x
// each, or of twice as many, multiply them. Blocks stay: a block takes tile after tile of the
// output, and weights of the next tile are under way while the last one is written
// (gemm_staging.cuh).
//
// An element is the sum over k in one order, in steps of the instruction, whatever the tile: so a
// row's result does not depend on the other rows nor on which of the instantiations computes it.
// Behind the inputs lie zeros, in some tiles more steps of them than in others: a step of zeros
// leaves a sum as it is. Sums of e4m3 products keep some 14 bits in Hopper's tensor cores, as they
// do in vLLM's kernels: what that costs, and what adding them up in float32 would, is in
// docs/performance/products.md.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "ops/cuda/device.cuh"
#include "ops/cuda/gemm_loads.cuh"
#include "ops/cuda/gemm_output.cuh"
#include "ops/cuda/gemm_staging.cuh"
#include "ops/cuda/gemm_widths.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/tensor_map.h"
#include "ops/cuda/tile_ring.cuh"

namespace narrow::ops::cuda {

// Few rows leave the tensor cores idle: two blocks on a processor hide each other's latencies, and
// the next kernel's blocks load their first weights while this one's end.
template <int kConsumers>
inline constexpr int kBlocks = kConsumers == 1 ? 2 : 1;
template <int kConsumers>
inline constexpr int kRingBytes = (kConsumers == 1 ? 208 : 204) << 10;
inline constexpr int kRingBytesOfTwo = 100 << 10;
// Of weights, asked for at a time on a processor by products of few rows while a ring is filled for
// the first time: enough for all that memory gives (gemm_loads.cuh).
inline constexpr int kBytesUnderWay = 72 << 10;
// wgmma reads 64 rows of x where a stage may hold fewer: what lies behind them is multiplied too
// and not stored, but must be memory of the block: it is what tiles are staged in.
template <int kConsumers>
inline constexpr int kStagingBytes = kConsumers* kWarpgroup / kWarpSize* kWarpStaging;
static_assert(kStagingBytes<1> >= 64 * kAtomBytes);

// The warpgroups that multiply, then the two warps of which a thread each fills the ring: beside
// two warpgroups they are part of one of their own, whose registers the others take.
template <int kConsumers>
inline constexpr int kThreads = kConsumers* kWarpgroup +
                                (kConsumers == 1 ? 2 * kWarpSize : kWarpgroup);
template <int kConsumers, int kOut>
inline constexpr bool kTakesRegisters = kConsumers* kOut >= 256;

// With few rows registers are left to blocks of the next kernel, a norm's perhaps: they start while
// these run, and so the blocks of the product behind them can fill their rings.
template <int kConsumers, int kOut>
inline constexpr int kRegisterShares = kConsumers == 2 ? 1
                                       : kOut == 112   ? 2
                                                       : 3;

// Whether what a product is added to is asked for while it is made. With few rows bf16 gains
// nothing by that, and e4m3 loses.
template <MmaType type, int kConsumers>
inline constexpr bool kPrefetches = kConsumers == 2 || type == MmaType::int8;

// A warpgroup's sums of a tile over `steps` stages, which one thread, which `speaks`, gives back,
// for kHigh times 64 rows. x_atom: of all rows of an atom of a stage, in 16 bytes. The first
// products of a stage are behind the last ones of the stage before when those are waited for, so
// the tensor cores have work.
template <MmaType type, int kOut, int kAtoms, int kHigh>
__device__ void add_products(TileRing& at, int steps, uint32_t x_atom, bool speaks,
                             typename MmaTraits<type>::Sum (&sums)[kHigh][kOut / 2]) {
  constexpr uint32_t kBelow = 64 * kAtomBytes / 16;  // to the next 64 rows
  uint32_t read = 0;                                 // of the stage before
  for (int step = 0; step < steps; ++step) {
    at.wait_for_tiles();
    wgmma_fence();
#pragma unroll
    for (int atom = 0; atom < kAtoms; ++atom) {
      const uint32_t x = at.x() + static_cast<uint32_t>(atom) * x_atom;
      const uint32_t w = at.weights() + static_cast<uint32_t>(atom * kOut * kAtomBytes / 16);
#pragma unroll
      for (int k = 0; k < 4; ++k)
#pragma unroll
        for (int h = 0; h < kHigh; ++h)
          wgmma<type, kOut>(sums[h], descriptor_from_low(x + h * kBelow + 2 * k),
                            descriptor_from_low(w + 2 * k), atom > 0 || k > 0 || step > 0);
      wgmma_commit();
      if (atom > 0) continue;
      wgmma_wait<1>();
      if (speaks && step > 0) arrive_at(read);
    }
    read = at.read();
    at.advance();
  }
  wgmma_wait<0>();
  if (speaks) arrive_at(read);
#pragma unroll
  for (int h = 0; h < kHigh; ++h)
#pragma unroll
    for (int i = 0; i < kOut / 2; ++i) keep(sums[h][i]);
}

// kAtoms: of kAtomBytes bytes along k, of a stage.
// kGated: a tile's weights are kOut / 2 of the first half of the outputs and those of the second.
// kHigh: of 64 rows, in a warpgroup. kAllRows: a tile has all rows.
template <MmaType type, int kConsumers, int kOut, int kAtoms, bool kGated, int kHigh, bool kAllRows>
__global__ void __launch_bounds__(kThreads<kConsumers>, kRegisterShares<kConsumers, kOut>)
    gemm_kernel(const __grid_constant__ CUtensorMap weight_map,
                const __grid_constant__ CUtensorMap x_map,
                const __grid_constant__ CUtensorMap last_x_map,
                const __grid_constant__ CUtensorMap y_map, GemmWork work) {
  constexpr int kRows = 64 * kHigh;  // of a warpgroup
  constexpr int kColumns = kGated ? kOut / 2 : kOut;
  constexpr int kElements = type == MmaType::bf16 ? kAtomBytes / 2 : kAtomBytes;  // of a step
  auto* const memory = reinterpret_cast<uint8_t*>(block_memory());
  __shared__ TileBarriers barriers;
  __shared__ __align__(16) float2 columns[kConsumers][kOut];
  uint8_t* const ring = memory + to_first_tile(memory);
  const int stage_bytes = kAtoms * (work.x_bytes + kOut * kAtomBytes);
  const int weights_offset = kAtoms * work.x_bytes;
  init_ring(barriers, work.stages, kConsumers);

  if (threadIdx.x >= kConsumers * kWarpgroup) {
    if constexpr (kTakesRegisters<kConsumers, kOut>) give_up_registers<40>();
    const int loader = static_cast<int>(threadIdx.x) - kConsumers * kWarpgroup;
    if (loader == 0)
      load_weights<kElements, kAtoms, kOut, kGated, kAllRows>(weight_map, work, stage_bytes,
                                                              barriers, ring + weights_offset);
    if (loader == kWarpSize)
      load_x<kElements, kAtoms, kAllRows>(x_map, last_x_map, work, stage_bytes, barriers, ring);
    return;
  }

  if constexpr (kTakesRegisters<kConsumers, kOut>) take_registers<232>();
  if (!work.beside_previous) wait_for_previous_kernel();
  let_next_kernel_start();
  const int consumer = warpgroup();
  const bool speaks = threadIdx.x % kWarpgroup == 0;
  const uint32_t x_atom = static_cast<uint32_t>(work.x_bytes) / 16;
  TileRing at(ring, barriers, work.stages, stage_bytes, consumer * kRows * kAtomBytes,
              weights_offset);
  const uint8_t* const staging = staging_behind(ring, work.stages * stage_bytes);
  // Whether the warp's rows among its warpgroup's h-th 64 are the tile's: behind those lie rows of
  // the next tile.
  const auto has_rows = [&](int h) {
    return kAllRows || kRows * consumer + 64 * h + row_of_warp() < work.tile_rows;
  };
  const auto store = [&](const auto& sums, const auto& terms, int h, int row, int column) {
    store_tile(work.to, sums, terms, has_rows(h), row, column, [&](auto value) {
      store_staged<kColumns>(y_map, !kGated && work.to.y.adds, has_rows(h), staging,
                             row + row_of_warp(), column, value);
    });
  };
  for (int tile = static_cast<int>(blockIdx.x); tile < work.tiles;
       tile += static_cast<int>(gridDim.x)) {
    const TilePlace place = place_of<kAllRows>(work, tile);
    const int row0 = place.rows * work.tile_rows + kRows * consumer;
    const int column0 = place.outs * kColumns;
    const TileTerms<type, kOut, kGated> terms(work.to, columns[consumer], row0, column0);
    if constexpr (kPrefetches<type, kConsumers> && !kGated && kHigh == 1)
      if (work.prefetches_y && has_rows(0))
        prefetch_staged<kColumns>(y_map, row0 + row_of_warp(), column0);
    static_assert(kHigh == 1 || type == MmaType::bf16);  // terms have scales of 64 rows
    typename MmaTraits<type>::Sum sums[kHigh][kOut / 2];
    add_products<type, kOut, kAtoms, kHigh>(at, work.steps, x_atom, speaks, sums);
#pragma unroll
    for (int h = 0; h < kHigh; ++h) store(sums[h], terms, h, row0 + 64 * h, column0);
  }
  finish_staged();
}

template <MmaType type>
inline constexpr TensorMapType kMapType =
    type == MmaType::bf16 ? TensorMapType::bf16 : TensorMapType::byte;

// All but the ring. tokens: of a tile at most, which are of equal height, so that none has many
// rows that are not there. columns: of a tile; atoms: of a step.
template <MmaType type>
GemmWork describe_gemm(const Gemm& gemm, int tokens, int columns, int atoms) {
  constexpr int kElementBytes = type == MmaType::bf16 ? 2 : 1;
  GemmWork work{};
  work.to = {static_cast<int>(gemm.rows),
             static_cast<int>(gemm.out),
             gemm.row_scale,
             gemm.column_scale,
             gemm.largest,
             gemm.y};
  work.token_tiles = div_up(gemm.rows, tokens);
  work.tiles = work.token_tiles * div_up(gemm.out, columns);
  work.tile_rows = div_up(div_up(gemm.rows, work.token_tiles), 16) * 16;
  const auto last_rows = gemm.rows - (work.token_tiles - 1) * work.tile_rows;
  work.last_x_bytes = div_up(last_rows, 8) * 8 * kAtomBytes;
  work.x_bytes = work.token_tiles == 1 ? work.last_x_bytes : work.tile_rows * kAtomBytes;
  work.whole = whole_atoms(kMapType<type>, gemm.in);
  work.steps = div_up(gemm.in * kElementBytes, atoms * kAtomBytes);
  work.prefetches_y = gemm.y.adds && has_whole_pieces(gemm.out, gemm.y);
  return work;
}

// In boxes of so many bytes an atom.
template <MmaType type>
CUtensorMap map_of_x(const Gemm& gemm, int bytes, int atoms) {
  return atoms_map(gemm.x, kMapType<type>, gemm.in, gemm.rows, gemm.x_stride, bytes / kAtomBytes,
                   atoms);
}

// Of y in bf16 that has whole pieces: others are not written by the copy engine.
template <int kColumns>
CUtensorMap map_of_y(const Gemm& gemm) {
  if (gemm.y.f32 || !has_whole_pieces(gemm.out, gemm.y)) return {};
  return rows_map(gemm.y.data, gemm.out, gemm.rows, 2 * gemm.y.stride, kStagedColumns<kColumns>,
                  kStagedRows);
}

// beside_previous: as GemmWork has it.
template <MmaType type, int kConsumers, int kOut, int kAtoms, bool kGated = false, int kHigh = 1,
          bool kAllRows = kConsumers == 1>
void launch_gemm(const Gemm& gemm, cudaStream_t stream, bool beside_previous = false) {
  constexpr int kTokens = 64 * kHigh * kConsumers, kColumns = kGated ? kOut / 2 : kOut;
  const auto kernel = gemm_kernel<type, kConsumers, kOut, kAtoms, kGated, kHigh, kAllRows>;
  static const bool allowed = [&] {
    allow_shared_memory(kernel, kRingBytes<kConsumers> + kStagingBytes<kConsumers> + 1024);
    return true;
  }();
  (void)allowed;
  GemmWork work = describe_gemm<type>(gemm, kTokens, kColumns, kAtoms);
  work.beside_previous = beside_previous;
  const int weight_bytes = kAtoms * kOut * kAtomBytes;
  const int blocks = work.tiles > processors() ? kBlocks<kConsumers> : 1;
  const int ring_bytes = blocks == 1 ? kRingBytes<kConsumers> : kRingBytesOfTwo;
  work.stages = std::min(kMostStages, ring_bytes / (kAtoms * work.x_bytes + weight_bytes));
  work.under_way = kConsumers == 1
                       ? std::clamp(kBytesUnderWay / blocks / weight_bytes, 1, work.stages)
                       : work.stages;
  const CUtensorMap weight_map =
      kGated ? atoms_of_halves_map(gemm.weight, kMapType<type>, gemm.in, 2 * gemm.out,
                                   gemm.w_stride, kOut, kAtoms)
             : atoms_map(gemm.weight, kMapType<type>, gemm.in, gemm.w_rows, gemm.w_stride, kOut,
                         kAtoms);
  launch(kernel, static_cast<unsigned>(std::min(work.tiles, processors() * blocks)),
         kThreads<kConsumers>, ring_bytes + kStagingBytes<kConsumers> + 1024, stream, weight_map,
         map_of_x<type>(gemm, work.x_bytes, kAtoms),
         map_of_x<type>(gemm, work.last_x_bytes, kAtoms), map_of_y<kColumns>(gemm), work);
}

// Tiles of one warpgroup. One thread starts the copies of weights: small ones would keep it from
// filling the ring in time.
template <MmaType type, int kOut, bool kGated>
void launch_narrow(const Gemm& gemm, cudaStream_t stream) {
  constexpr int kCopyBytes = 24 << 10;
  const int64_t atom_bytes = (div_up(gemm.rows, 8) * 8 + kOut) * kAtomBytes;
  const int64_t atoms = whole_atoms(kMapType<type>, gemm.in) ? kCopyBytes / atom_bytes : 1;
  if constexpr (kOut == 32)
    if (atoms >= 4) return launch_gemm<type, 1, kOut, 4, kGated>(gemm, stream);
  // Of 32 outputs and 64 rows two are a copy, and widths in bytes are padded to whole ones.
  constexpr bool kTwoAlways = kOut == 32 && type != MmaType::bf16;
  if constexpr (kOut <= 64)
    if (kTwoAlways || atoms >= 2) return launch_gemm<type, 1, kOut, 2, kGated>(gemm, stream);
  if constexpr (!kTwoAlways) launch_gemm<type, 1, kOut, 1, kGated>(gemm, stream);
}

// gemm_int8_split.cu: the product, if it is of a shape for that.
bool split_int8(const Gemm& gemm, cudaStream_t stream);

// The product's outputs [begin, begin + count). REQUIRES: not gated.
inline Gemm outputs_of(Gemm gemm, int64_t begin, int64_t count) {
  gemm.weight = static_cast<const uint8_t*>(gemm.weight) + begin * gemm.w_stride;
  gemm.w_rows -= begin;
  gemm.out = count;
  if (gemm.column_scale) gemm.column_scale += begin;
  if (gemm.y.bias) gemm.y.bias += begin;
  gemm.y.data = static_cast<uint8_t*>(gemm.y.data) + begin * (gemm.y.f32 ? 4 : 2);
  return gemm;
}

// The product of up to 64 rows.
template <MmaType type, bool kGated, int... kOuts>
void run_narrow(const Gemm& gemm, std::integer_sequence<int, kOuts...> widths,
                cudaStream_t stream) {
  const int64_t out = kGated ? 2 * gemm.out : gemm.out, processors = cuda::processors();
  constexpr int kNarrowest = std::min({kOuts...});
  const int best = best_width(widths, [&](int width) {
    const int64_t tiles = div_up(out, width);
    // So few processors do not take all that memory gives.
    if (width > kNarrowest && 10 * tiles < 9 * processors) return INT64_MAX;
    // A row of x as a third of a row of weights: fitted (docs/performance/products.md).
    return div_up(tiles, processors) * (20 * width + 7 * gemm.rows);
  });
  with_width(widths, best, [&](auto width) { launch_narrow<type, width(), kGated>(gemm, stream); });
}

// Picks the tile; it changes no bit of the result.
template <MmaType type>
void run_gemm(const Gemm& gemm, cudaStream_t stream) {
  const int64_t out = gemm.gated ? 2 * gemm.out : gemm.out, processors = cuda::processors();
  if (gemm.rows <= 64 && gemm.gated)
    return run_narrow<type, true>(gemm, std::integer_sequence<int, 64, 112>(), stream);
  if (gemm.rows <= 64)
    return run_narrow<type, false>(gemm, std::integer_sequence<int, 32, 48, 64, 112>(), stream);
  // Tiles of all rows by 64 outputs would leave half of the processors idle.
  if (!gemm.gated && gemm.rows <= 128 && 2 * div_up(out, 64) <= processors)
    return launch_gemm<type, 1, 64, 1, false, 1, /*kAllRows=*/false>(gemm, stream);
  const auto cost = [&](int width, int high) {
    return div_up(div_up(gemm.rows, 128 * high) * div_up(out, width), processors) *
           round_cost(width, high);
  };
  if (gemm.gated) {
    using Widths =
        std::conditional_t<type == MmaType::bf16, std::integer_sequence<int, 128, 192, 224, 256>,
                           std::integer_sequence<int, 128, 224, 256>>;
    const int best =
        best_width(Widths(), [&](int width) { return cost(width, gated_high<type>(width)); });
    return with_width(Widths(), best, [&](auto width) {
      launch_gemm<type, 2, width(), 1, true, gated_high<type>(width())>(gemm, stream);
    });
  }
  using Widths = std::integer_sequence<int, 64, 96, 128, 192, 224, 256>;
  const auto launch = [&](const Gemm& of, int width, bool beside_previous) {
    with_width(Widths(), width, [&](auto constant) {
      launch_gemm<type, 2, constant(), 1>(of, stream, beside_previous);
    });
  };
  const int one = best_width(Widths(), [&](int width) { return cost(width, 1); });
  const TwoWidths two = best_two_widths(Widths(), gemm.out, div_up(gemm.rows, 128));
  // A kernel more has to gain more than a sixteenth.
  if (two.cost >= cost(one, 1) * 15 / 16) return launch(gemm, one, false);
  launch(outputs_of(gemm, 0, two.outputs), two.first, false);
  launch(outputs_of(gemm, two.outputs, gemm.out - two.outputs), two.second, true);
}

}  // namespace narrow::ops::cuda
