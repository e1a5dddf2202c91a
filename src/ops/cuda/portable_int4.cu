// 4-bit weights for the portable kernels: up to kSkinnyInt4Rows rows skinny_int4, whose order of
// sums this keeps, from there on tiles. A chunk (int4_layout.h) is copied whole; its words are in
// the order in which the lanes of an mma tile want them, so rows of x come by ldmatrix.
#include "ops/cuda/portable.h"
#include "ops/cuda/portable_tiles.cuh"

namespace narrow::ops::cuda {
namespace {

struct Int4Chunks {
  using Sum = float;
  static constexpr bool kRowScale = false, kColumnScale = true;
  static constexpr int kXAtoms = 2;  // 128 inputs
  static constexpr int kPairs = kInt4Inputs / 32;
  static constexpr int kSplits = 2;

  static int weight_bytes(const Product& product, int outs) {
    return outs / kInt4Outs * product.chunk_bytes;
  }

  template <int kOuts, int kThreads>
  struct WeightCopies {
    static constexpr int kTiles = kOuts / kInt4Outs;
    const uint8_t* from[kTiles];
    int thread;

    __device__ WeightCopies(const Product& product, int out0, int thread) : thread(thread) {
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        // Beyond the last outputs nothing is stored: any weights do.
        const int64_t of_outs = min(out0 / kInt4Outs + i, (product.out - 1) / kInt4Outs);
        from[i] = product.weight + of_outs * product.weight_stride;
      }
    }
    __device__ void copy(const Product& product, uint4* stage, int chunk) const {
      const int units = product.chunk_bytes / kUnitBytes;
      const int64_t at = static_cast<int64_t>(chunk) * product.chunk_bytes;
#pragma unroll
      for (int i = 0; i < kTiles; ++i)
        for (int unit = thread; unit < units; unit += kThreads)
          copy_unit_async(stage + i * units + unit, from[i] + at + unit * kUnitBytes, true);
    }
  };

  __device__ static void operands(const Product& product, const uint4* weights, int row0, int pair,
                                  int lane, uint32_t (&a)[2][4]) {
    const int tile = row0 % kInt4Outs / 16;
    const uint4* chunk = weights + row0 / kInt4Outs * (product.chunk_bytes / kUnitBytes);
    const uint4 words =
        chunk[pair / 2 * (kInt4WordBytes / 2 / kUnitBytes) + tile * kWarpSize + lane];
    const auto* scales = reinterpret_cast<const uint32_t*>(chunk + kInt4WordBytes / kUnitBytes) +
                         pair * product.groups / kPairs * (kInt4GroupBytes / 4) + tile * 8 +
                         lane / 4;
    const Int4Group<true> group(*scales, product.offsets
                                             ? scales[product.groups * (kInt4GroupBytes / 4)]
                                             : kSymmetricOffsets);
    group.weights(pair % 2 == 0 ? words.x : words.z, a[0]);
    group.weights(pair % 2 == 0 ? words.y : words.w, a[1]);
  }

  template <int kTokens>
  __device__ static uint4 inputs(const uint4* x, int token0, int pair, int lane) {
    const int row = token0 + lane % 8, unit = pair % 2 * 4 + lane / 8;
    return load_matrices(x + (pair / 2 * kTokens + row) * kAtomUnits + (unit ^ exchange_of(row)));
  }

  __device__ static void multiply(Sum (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma_bf16(sum, a[0], a[1], a[2], a[3], b0, b1);
  }
  __device__ static float finish(Sum sum, float, float column_scale, float bias) {
    return fmaf(sum, column_scale, bias);
  }
};

}  // namespace

void portable_int4(const Int4Weights& weights, int64_t out, int64_t in, const __nv_bfloat16* x,
                   int64_t rows, Output y, cudaStream_t stream) {
  if (rows <= kSkinnyInt4Rows) return skinny_int4(weights, out, in, x, rows, y, stream);
  Product product;
  product.groups = kInt4Inputs / weights.group;
  product.offsets = weights.offsets;
  product.chunk_bytes =
      kInt4WordBytes + product.groups * kInt4GroupBytes * (weights.offsets ? 2 : 1);
  product.chunks = div_up(in, kInt4Inputs);
  product.weight = weights.chunks;
  product.column_scale = weights.scale;
  product.weight_stride = static_cast<int64_t>(product.chunks) * product.chunk_bytes;
  product.x = reinterpret_cast<const uint8_t*>(x);
  product.x_stride = 2 * in;
  product.x_bytes = static_cast<int>(2 * in);
  product.rows = static_cast<int>(rows);
  product.out = static_cast<int>(out);
  product.y = y;
  run_tiles<Int4Chunks>(product, stream);
}

}  // namespace narrow::ops::cuda
