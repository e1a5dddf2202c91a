// y = x Wᵀ for 4-bit weights where whole tiles would leave processors idle: the four warpgroups of
// a block, or the eight of a cluster of two, have the same 64 outputs and each one or two of the
// eight parts of the inputs (int4.cuh). The parts of half of the rows go to each block, by way of
// distributed shared memory, which adds them in their order: the bits are those of gemm_int4.cu.
#include "ops/cuda/int4_tiles.cuh"
#include "ops/cuda/output.cuh"

namespace narrow::ops::cuda {
namespace {

// A tile of 64 rows in one block is for two warpgroups, which have registers for the sums of four
// parts each.
template <int kTokens, int kBlocks>
inline constexpr int kRingsOf = kTokens == 64 && kBlocks == 1 ? 2 : 4;

template <int kTokens, int kBlocks>
struct Split : Int4Shape<1, kRingsOf<kTokens, kBlocks>, kTokens, 4> {
  static constexpr int kRings = kRingsOf<kTokens, kBlocks>;
  static constexpr int kParts = kInt4Parts / (kRings * kBlocks);  // of a warpgroup
  // Eight rows of x: of a thread's sums four, the unit of the exchange.
  static constexpr int kEights = kTokens / 8, kOwnEights = kEights / kBlocks;
  // The exchange: [part][own eight][thread] of four sums, in the place of the rings; behind it
  // tiles that wait to be stored, in bf16.
  static constexpr int kExchangeBytes = kInt4Parts * kOwnEights * kWarpgroup * int{sizeof(float4)};
  static constexpr int kPitch = kInt4Outs + 8, kStagingBytes = kRings * 8 * kPitch * 2;
  static_assert(kExchangeBytes + kStagingBytes < kInt4Memory - 1024);
};

// A warpgroup adds up the parts of eight rows and 64 outputs and writes them, by way of `staging`,
// so that rows of y are written in pieces of 128 bytes. parts: the first of the thread's.
__device__ void finish_eight(const Int4Work& work, const float4* parts, int part_stride, int out0,
                             int token0, __nv_bfloat16* staging, int pitch, int barrier) {
  const int thread = threadIdx.x % kWarpgroup;
  const int warp = thread / kWarpSize, g = thread % kWarpSize / 4, t = thread % 4;
  const Output& y = work.y;
  float4 total = {0, 0, 0, 0};
#pragma unroll
  for (int p = 0; p < kInt4Parts; ++p) {
    const float4 part = parts[p * part_stride];
    total.x += part.x, total.y += part.y, total.z += part.z, total.w += part.w;
  }
  const float sums[2][2] = {{total.x, total.y}, {total.z, total.w}};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int n = 16 * warp + g + 8 * i, column = out0 + n;
    const bool there = column < work.out;
    const float scale = there ? work.scale[column] : 0;
    const float bias = there && y.bias ? y.bias[column] : 0;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int row = 2 * t + c;
      const float value = fmaf(sums[i][c], scale, bias);
      if (!y.f32) {
        staging[row * pitch + n] = __float2bfloat16_rn(value);
      } else if (there && token0 + row < work.rows) {
        static_cast<float*>(y.data)[(token0 + row) * y.stride + column] = value;
      }
    }
  }
  if (y.f32) return;
  sync_threads<kWarpgroup>(barrier);
  const int rows = min(8, work.rows - token0);
  if (out0 + kInt4Outs <= work.out && has_aligned_rows(y)) {
    const int row = thread / 8, n = thread % 8 * 8;
    if (row < rows)
      store_eight(y, token0 + row, out0 + n,
                  *reinterpret_cast<const uint4*>(staging + row * pitch + n));
  } else {
    for (int i = thread; i < rows * kInt4Outs; i += kWarpgroup) {
      const int row = i / kInt4Outs, n = i % kInt4Outs;
      if (out0 + n < work.out)
        store_number(y, token0 + row, out0 + n, __bfloat162float(staging[row * pitch + n]));
    }
  }
  sync_threads<kWarpgroup>(barrier);
}

template <int kTokens, int kBlocks, Int4Kind kKind>
__global__ void __launch_bounds__(Split<kTokens, kBlocks>::kThreads, 1)
    split_int4_kernel(const __grid_constant__ Int4XMaps x_maps, Int4Work work) {
  using S = Split<kTokens, kBlocks>;
  constexpr int kRings = S::kRings;
  NARROW_BLOCK_BYTES(memory);
  __shared__ uint64_t full[kRings][kInt4MostStages], empty[kRings][kInt4MostStages];
  uint8_t* rings = memory + to_first_tile(memory);
  if (threadIdx.x < kRings * kInt4MostStages) {
    init_barrier(full[0] + threadIdx.x, 1);
    init_barrier(empty[0] + threadIdx.x, 4);  // warps
  }
  publish_barriers();
  __syncthreads();

  const int unit = static_cast<int>(blockIdx.x) / kBlocks;
  const int rank = static_cast<int>(blockIdx.x) % kBlocks;
  const auto ring_of = [&](int ring) {
    return Int4Ring{rings + ring * work.stages * work.stage_bytes, full[ring], empty[ring]};
  };
  const auto first_part = [&](int ring) { return (rank * kRings + ring) * S::kParts; };
  if (threadIdx.x < kWarpgroup) {
    give_up_registers<S::kProducerRegisters>();
    const int ring = threadIdx.x / kWarpSize;
    if (ring < kRings && threadIdx.x % kWarpSize == 0) {
      const int begin = first_int4_chunk(first_part(ring), work.chunks);
      const int end = first_int4_chunk(first_part(ring + 1), work.chunks);
      fill_int4_ring<S>(x_maps, work, ring_of(ring), begin, end - begin, unit,
                        [](const Int4Place&) {});
    }
    __syncwarp();
    cluster_sync();
    cluster_sync();
    return;
  }
  take_registers<S::kConsumerRegisters>();
  wait_for_previous_kernel();
  let_next_kernel_start();
  const Int4Place of(work, unit);
  const int group = warpgroup() - 1;
  const int thread = threadIdx.x % kWarpgroup;
  float sums[S::kParts][kTokens / 2];
  StagePlace at;
#pragma unroll
  for (int i = 0; i < S::kParts; ++i) {
    const int part = first_part(group) + i;
    const int chunks =
        first_int4_chunk(part + 1, work.chunks) - first_int4_chunk(part, work.chunks);
    add_int4_part<S, kKind>(work, ring_of(group), at, chunks, 0, sums[i]);
  }
  cluster_sync();  // all are done with what lies in the rings
  auto* const exchange = reinterpret_cast<float4*>(rings);
#pragma unroll
  for (int i = 0; i < S::kParts; ++i)
#pragma unroll
    for (int eight = 0; eight < S::kEights; ++eight) {
      const float* of_eight = sums[i] + 4 * eight;
      store_in_cluster(
          address_in(
              exchange +
                  ((first_part(group) + i) * S::kOwnEights + eight % S::kOwnEights) * kWarpgroup +
                  thread,
              eight / S::kOwnEights),
          make_float4(of_eight[0], of_eight[1], of_eight[2], of_eight[3]));
    }
  cluster_sync();
  auto* const staging = reinterpret_cast<__nv_bfloat16*>(rings + S::kExchangeBytes);
  for (int eight = group; eight < S::kOwnEights; eight += kRings)
    finish_eight(work, exchange + eight * kWarpgroup + thread, S::kOwnEights * kWarpgroup,
                 of.tile * kInt4Outs, of.token_tile * kTokens + 8 * (rank * S::kOwnEights + eight),
                 staging + group * 8 * S::kPitch, S::kPitch, group + 1);
}

template <int kTokens, int kBlocks>
void run(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x, int64_t rows,
         Output y, cudaStream_t stream) {
  using S = Split<kTokens, kBlocks>;
  constexpr decltype(&split_int4_kernel<kTokens, kBlocks, Int4Kind::any>) kernels[] = {
      split_int4_kernel<kTokens, kBlocks, Int4Kind::symmetric>,
      split_int4_kernel<kTokens, kBlocks, Int4Kind::asymmetric>,
      split_int4_kernel<kTokens, kBlocks, Int4Kind::any>};
  const Int4Work work = describe_int4<S>(weights, out, in, rows, y, 0);
  const int exchange = S::kExchangeBytes + S::kStagingBytes;
  const int extra = std::max(0, exchange - S::kRings * work.stages * work.stage_bytes);
  launch_int4<S>(kernels, kBlocks, kBlocks * work.units, work, weights, in, x, extra, stream);
}

}  // namespace

void split_int4(int tokens, int blocks, const Int4Weights& weights, int64_t out, int64_t in,
                const __nv_bfloat16* x, int64_t rows, Output y, cudaStream_t stream) {
  const auto run_tokens = tokens == 32 ? (blocks == 1 ? run<32, 1> : run<32, 2>)
                                       : (blocks == 1 ? run<64, 1> : run<64, 2>);
  run_tokens(weights, out, in, x, rows, y, stream);
}

}  // namespace narrow::ops::cuda
