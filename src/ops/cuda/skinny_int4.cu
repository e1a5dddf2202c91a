// y = x Wᵀ for 4-bit weights and few rows of x: a stream of weights, bound by memory. A block owns
// sixteen outputs; each of its warps walks one of the kInt4Parts parts of the inputs with mma,
// whose sums have the bits of gemm_int4.cu's (benchmarks/lab/mma_bits.cu), and the parts are added
// in their order. A row of x is a column of the mma tile: its result does not depend on the others.
#include "ops/cuda/int4.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/output.cuh"

namespace narrow::ops::cuda {
namespace {

constexpr int kOuts = 16;  // of a block
constexpr int kTilesOfChunk = kInt4Outs / kOuts;
constexpr int kSteps = kInt4Inputs / 16;  // of a chunk

// A lane's share of a chunk.
template <int kGroups, bool kOffsets>
struct Step {
  uint4 words[2];
  uint32_t scales[kGroups];
  uint32_t offsets[kOffsets ? kGroups : 1];

  __device__ void load(const uint8_t* chunk, int tile, int lane) {
    words[0] = load_streaming(chunk + (tile * kWarpSize + lane) * 16);
    words[1] = load_streaming(chunk + kInt4WordBytes / 2 + (tile * kWarpSize + lane) * 16);
    const auto* at =
        reinterpret_cast<const uint32_t*>(chunk + kInt4WordBytes) + tile * 8 + lane / 4;
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      scales[i] = __ldg(at + i * (kInt4GroupBytes / 4));
      if (kOffsets) offsets[i] = __ldg(at + (kGroups + i) * (kInt4GroupBytes / 4));
    }
  }
};

// Rows of x of a chunk in shared memory: units of 16 bytes, exchanged within a row so that eight
// rows lie in other banks.
constexpr int kUnits = kInt4Inputs / 8;
struct Inputs {
  uint4 unit[kSkinnyInt4Rows][kUnits];
  __device__ uint4* at(int row, int u) { return &unit[row][u ^ row]; }
};

template <int kGroups, bool kOffsets>
__global__ void __launch_bounds__(kInt4Parts* kWarpSize)
    skinny_int4_kernel(Int4Weights weights, const __nv_bfloat16* x, int out, int in, int chunks,
                       int rows, Output y) {
  constexpr int kUnroll = kGroups == 1 ? 4 : 2;
  constexpr int kLaneUnits = kSkinnyInt4Rows * kUnits / kWarpSize;
  __shared__ Inputs inputs[kInt4Parts];
  __shared__ float partial[kInt4Parts][kOuts * kSkinnyInt4Rows];
  const int part = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int tile = blockIdx.x % kTilesOfChunk;
  const int begin = first_int4_chunk(part, chunks), end = first_int4_chunk(part + 1, chunks);
  constexpr int kChunkBytes = kInt4WordBytes + kGroups * kInt4GroupBytes * (kOffsets ? 2 : 1);
  const uint8_t* of_tile =
      weights.chunks + static_cast<int64_t>(blockIdx.x / kTilesOfChunk) * chunks * kChunkBytes;
  float sums[4] = {};

  Step<kGroups, kOffsets> loaded[kUnroll];
  const auto load = [&](int first) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
      if (first + u < end)
        loaded[u].load(of_tile + static_cast<int64_t>(first + u) * kChunkBytes, tile, lane);
  };
  uint4 x_ahead[kLaneUnits];
  const auto load_x = [&](int chunk) {
#pragma unroll
    for (int i = 0; i < kLaneUnits; ++i) {
      const int row = (i * kWarpSize + lane) / kUnits, unit = (i * kWarpSize + lane) % kUnits;
      const int k = chunk * kInt4Inputs + 8 * unit;
      x_ahead[i] = row < rows && k < in
                       ? *reinterpret_cast<const uint4*>(x + static_cast<int64_t>(row) * in + k)
                       : uint4{};
    }
  };
  const int row = threadIdx.x / kOuts;
  const int column = static_cast<int>(blockIdx.x) * kOuts + threadIdx.x % kOuts;
  const bool there = row < rows && column < out;
  // Weights do not depend on the kernel before this one: the first are under way while it ends.
  load(begin);
  wait_for_previous_kernel();
  let_next_kernel_start();
  const float before = there ? number_before(y, row, column) : 0;
  if (begin < end) load_x(begin);
  for (int first = begin; first < end; first += kUnroll) {
    if (first != begin) load(first);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (first + u >= end) break;
#pragma unroll
      for (int i = 0; i < kLaneUnits; ++i)
        *inputs[part].at((i * kWarpSize + lane) / kUnits, (i * kWarpSize + lane) % kUnits) =
            x_ahead[i];
      __syncwarp();
      if (first + u + 1 < end) load_x(first + u + 1);
      const uint4 w[2] = {loaded[u].words[0], loaded[u].words[1]};
      const uint32_t words[kSteps] = {w[0].x, w[0].y, w[0].z, w[0].w,
                                      w[1].x, w[1].y, w[1].z, w[1].w};
#pragma unroll
      for (int s = 0; s < kSteps; s += 2) {
        const uint4 b = load_matrices(inputs[part].at(lane % 8, 2 * s + lane / 8));
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int group = (s + i) * kGroups / kSteps;
          uint32_t a[4];
          Int4Group<kOffsets>(loaded[u].scales[group], loaded[u].offsets[kOffsets ? group : 0])
              .weights(words[s + i], a);
          mma_bf16(sums, a[0], a[1], a[2], a[3], i == 0 ? b.x : b.z, i == 0 ? b.y : b.w);
        }
      }
      __syncwarp();
    }
  }

#pragma unroll
  for (int i = 0; i < 4; ++i) partial[part][(2 * t + i % 2) * kOuts + g + 8 * (i / 2)] = sums[i];
  __syncthreads();
  if (!there) return;
  float total = 0;
#pragma unroll
  for (int p = 0; p < kInt4Parts; ++p) total += partial[p][threadIdx.x];
  total = fmaf(total, weights.scale[column], y.bias ? y.bias[column] : 0);
  store_number(y, row, column, total, before);
}

template <int kGroups>
void run(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x, int64_t rows,
         Output y, cudaStream_t stream) {
  launch(weights.offsets ? skinny_int4_kernel<kGroups, true> : skinny_int4_kernel<kGroups, false>,
         static_cast<unsigned>(div_up(out, kOuts)), kInt4Parts * kWarpSize, 0, stream, weights, x,
         static_cast<int>(out), static_cast<int>(in), div_up(in, kInt4Inputs),
         static_cast<int>(rows), y);
}

}  // namespace

void skinny_int4(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x,
                 int64_t rows, Output y, cudaStream_t stream) {
  if (weights.group == 32) return run<4>(weights, out, in, x, rows, y, stream);
  if (weights.group == 64) return run<2>(weights, out, in, x, rows, y, stream);
  run<1>(weights, out, in, x, rows, y, stream);
}

}  // namespace narrow::ops::cuda
