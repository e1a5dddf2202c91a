// All layers of a decoder and its head over one row, in one kernel: at one row a step is a stream
// of weights, and every kernel's start and end would interrupt it. A block stays on each processor.
// Two of its threads stream the weights of its tiles of all products, and cached keys and values of
// its pieces of attention, through a ring in shared memory, as far ahead as the ring is long
// (row_stream.cuh); the others compute, and wait where what all blocks have made is the next
// product's input (row_exchange.cuh):
//
//   norm, qkv | rotation, attention | o | norm, gate_up, silu · up | down      and in the end
//   norm, head
//
// Each block normalizes and quantizes the whole row for itself and keeps the residual.
//
// Every bit is that of the kernels which take a step operation by operation: products sum over k in
// the order of gemm.cuh and gemm_int4.cu, a norm over the threads of norm.cu, attention by the
// pieces of attention_piece.cuh.
#pragma once

#include "ops/cuda/launch.cuh"
#include "ops/cuda/numbers.cuh"
#include "ops/cuda/row_attention.cuh"
#include "ops/cuda/row_inputs.cuh"
#include "ops/cuda/row_product_int4.cuh"
#include "ops/cuda/row_products.cuh"
#include "ops/cuda/row_stream.cuh"
#include "ops/cuda/tensor_map.h"

namespace narrow::ops::cuda {

__device__ inline float activate(float gate, float up) {
  return silu(__bfloat162float(__float2bfloat16_rn(gate))) *
         __bfloat162float(__float2bfloat16_rn(up));
}

template <class Format, int kHeadDim, class Kv>
__device__ void compute_layers(const RowLayers& work, RowShared& shared, uint8_t* ring, uint8_t* x,
                               __nv_bfloat16* residual, __nv_bfloat16* staged) {
  constexpr Codes kCodes = Format::kCodes;
  const int thread = static_cast<int>(threadIdx.x);
  RingPlace at;
  const uint32_t first_turn = __ldcg(work.state), last_tag = __ldcg(work.tag);
  // Where a layer's vectors are: of the next one while this one is computed.
  const auto find_vectors = [&](int layer) {
    const RowLayer& of = work.table[layer];
    if (thread < kRowProducts) {
      shared.column_scale[layer % 2][thread] = of.column_scale[thread];
      shared.bias[layer % 2][thread] = of.bias[thread];
    }
    if (thread < 2) shared.norm[layer % 2][thread] = of.norm[thread];
  };
  find_vectors(0);
  describe_row<kHeadDim>(work, shared);
#pragma unroll 1
  for (int c = 8 * thread; c < work.hidden; c += 8 * kRowConsumers)
    *reinterpret_cast<uint4*>(residual + c) = *reinterpret_cast<const uint4*>(work.embedded + c);
  sync_consumers();

#pragma unroll 1
  for (int layer = 0; layer < work.layers; ++layer) {
    const RowTurn turn = turn_of(work, first_turn, layer);
    // One place in the code for all products.
#pragma unroll 1
    for (int product = 0; product < kRowProducts; ++product) {
      const int steps = work.product[product].steps;
      const int padded = kIsInt4<Format> ? 0 : steps * kRowSegment;
      if (product == kQkv || product == kGateUp) {
        const bool first = layer == 0 && product == kQkv;
        const __nv_bfloat16* const added =
            product == kGateUp
                ? work.made[kO] + turn.now
                : work.made[kDown] + turn_of(work, first_turn, layer + kRowTurns - 1).now;
        normalize_row<Format>(work, first ? nullptr : added,
                              shared.norm[layer % 2][product / kGateUp], residual, staged, shared,
                              x, padded);
        if (product == kQkv) find_vectors(layer + 1);
      } else {
        take_row<Format>((product == kO ? work.attended : work.made[kGateUp]) + turn.now,
                         work.product[product].in, staged, shared, x, padded);
      }
      begin_product(shared, layer * kRowProducts + product + 1);
      const float* const scale = shared.column_scale[layer % 2][product];
      const float* const bias = shared.bias[layer % 2][product];
      const auto find = [&](int column) {
        return ColumnVectors{scale ? __ldg(scale + column) : 1, bias ? __ldg(bias + column) : 0};
      };
      const auto finish = [&](const ColumnVectors& of, auto sum) {
        if constexpr (kCodes == Codes::none) return fmaf(sum, of.scale, of.bias);
        return fmaf(static_cast<float>(sum), shared.row_scale * of.scale, of.bias);
      };
      const auto store = [&](int column, float low, float high) {
        tell(work.made[product] + column, turn, pack_bf16(low, high));
      };
      if constexpr (kIsInt4<Format>) {
        Int4Product<Format> of(work, product, shared, ring, x, at);
        of.multiply(find, finish, activate, store);
        at.advance(of.stages(), work.stages);
      } else if constexpr (kIsFp8<Format>) {
        multiply_fp8(work, product, shared, ring, x, at, find, finish, activate, store);
      } else {
        multiply<Format, Format>(
            work, shared.tiles[product], steps, product == kGateUp, shared, ring, x, at,
            [&](int i) { return rows_of_tile<Format>(work, product, i); }, find, finish, activate,
            store);
      }
      if (product == kQkv) {
        sync_consumers();  // all are done with x
        attend_row<Format, kHeadDim, Kv>(work, work.kv[layer], turn,
                                         last_tag + 1 + static_cast<uint32_t>(layer), shared, ring,
                                         x, at);
      }
    }
  }

  auto* const normed = reinterpret_cast<__nv_bfloat16*>(x);
  normalize_row<RowBf16>(work, work.made[kDown] + turn_of(work, first_turn, work.layers - 1).now,
                         shared.norm[work.layers % 2][0], residual, normed, shared, x,
                         work.head.steps * kRowSegment);
  begin_product(shared, work.layers * kRowProducts + 1);
  multiply<RowBf16, Format>(
      work, shared.tiles[kRowProducts], work.head.steps, false, shared, ring, x, at,
      [](int i) { return rows_of_tile(i); },
      [&](int column) {
        const float* const bias = shared.bias[work.layers % 2][0];
        return ColumnVectors{1, bias ? __ldg(bias + column) : 0};
      },
      [](const ColumnVectors& of, float sum) { return sum + of.bias; }, activate,
      [&](int column, float low, float high) {
        *reinterpret_cast<float2*>(work.logits + column) = make_float2(low, high);
      });
  if (thread == 0 && atomicAdd(&work.state[1], 1) + 1 == static_cast<uint32_t>(gridDim.x)) {
    work.state[0] = (first_turn + static_cast<uint32_t>(work.layers)) % kRowTurns;
    work.state[1] = 0;
    // A tag comes again after days, and none is zero.
    *work.tag = last_tag > kLastRowTag ? 0 : last_tag + static_cast<uint32_t>(work.layers);
  }
}

template <class Format, int kHeadDim, class Kv>
__global__ void __launch_bounds__(kRowThreads, 1)
    row_layers_kernel(const __grid_constant__ RowLayers work) {
  NARROW_BLOCK_BYTES(memory);
  __shared__ RowShared shared;
  uint8_t* ring = memory + (kRowAlignment - shared_address(memory) % kRowAlignment) % kRowAlignment;
  uint8_t* x = ring + work.stages * Format::kStage;
  auto* residual = reinterpret_cast<__nv_bfloat16*>(x + work.x_bytes);
  // Rows that become codes are staged beside them.
  auto* staged =
      Format::kCodes == Codes::none ? reinterpret_cast<__nv_bfloat16*>(x) : residual + work.hidden;
  if (threadIdx.x <= kRowProducts)
    shared.tiles[threadIdx.x] = count_tiles<Format>(work, static_cast<int>(threadIdx.x));
  if (threadIdx.x == 0) {
    for (int s = 0; s < work.stages; ++s) {
      init_barrier(&shared.full[s], kFillers);
      init_barrier(&shared.empty[s], Format::kReaders);
    }
    publish_barriers();
    shared.zeros = uint4{};
    shared.begun = 0;
    shared.stages = work.stages;
  }
  __syncthreads();
  // Launched with 96 registers a thread: 4 · 112 + 32 are as many as 5 · 96.
  if (threadIdx.x < kRowConsumers) {
    take_registers<112>();
    compute_layers<Format, kHeadDim, Kv>(work, shared, ring, x, residual, staged);
  } else {
    give_up_registers<32>();
    const int warp = (static_cast<int>(threadIdx.x) - kRowConsumers) / kWarpSize;
    if (threadIdx.x % kWarpSize == 0 && warp < kFillers)
      RowStream<Format, kHeadDim, Kv>(work, shared, ring, warp).run();
  }
}

template <class Format, int kHeadDim, class Kv>
void launch_row_layers(const RowLayers& work, cudaStream_t stream) {
  const auto kernel = row_layers_kernel<Format, kHeadDim, Kv>;
  static const bool allowed = [&] {
    allow_shared_memory(kernel, kRowMemory - kRowStaticBytes);
    return true;
  }();
  (void)allowed;
  launch_together(kernel, static_cast<unsigned>(work.blocks), kRowThreads,
                  static_cast<size_t>(row_memory_bytes(work, Format::kStage)), stream, work);
}

template <class Format>
void run_row_layers(const RowLayers& work, cudaStream_t stream) {
  const bool wide = work.attention.head_dim == 128, e4m3 = work.attention.e4m3;
  if (wide && e4m3) return launch_row_layers<Format, 128, e4m3_t>(work, stream);
  if (wide) return launch_row_layers<Format, 128, __nv_bfloat16>(work, stream);
  if (e4m3) return launch_row_layers<Format, 64, e4m3_t>(work, stream);
  launch_row_layers<Format, 64, __nv_bfloat16>(work, stream);
}

}  // namespace narrow::ops::cuda
