// 4-bit weights as bf16 rows, for products with many rows.
#include "ops/cuda/int4.cuh"
#include "ops/cuda/launch.cuh"

namespace narrow::ops::cuda {
namespace {

// One warp per row tile and 64 inputs. Value: bf16((code - zero point) · scale), one rounding.
__global__ void dequantize_int4_kernel(Int4Weights weights, int64_t chunks, __nv_bfloat16* to) {
  wait_for_previous_kernel();
  const int64_t chunk = blockIdx.x * static_cast<int64_t>(blockDim.y) + threadIdx.y;
  const int64_t row_tile = blockIdx.y;
  if (chunk >= chunks) return;
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  const int64_t in_padded = chunks * 64;
  const uint4 words =
      load_streaming(weights.words + (row_tile * chunks + chunk) * kWarpSize + lane);
  const uint32_t word[4] = {words.x, words.y, words.z, words.w};
  __nv_bfloat16* low = to + (row_tile * kRowTile + g) * in_padded + chunk * 64 + 8 * t;
  __nv_bfloat16* high = low + 8 * in_padded;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t group = (row_tile * in_padded + chunk * 64 + 32 * half) / weights.group;
    const float2 scale = unpack_bf16(weights.scales[group * 8 + g]);
    const uint32_t offsets = weights.offsets ? weights.offsets[group * 8 + g] : kSymmetricOffset;
    uint32_t rows[2][4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const Int4Pairs a = unpack_int4(word[2 * half + i], twice_low(offsets), twice_high(offsets));
      const auto scaled = [](uint32_t pair, float factor) {
        const float2 v = unpack_bf16(pair);
        return pack_bf16(v.x * factor, v.y * factor);
      };
      rows[0][2 * i] = scaled(a.a0, scale.x);
      rows[0][2 * i + 1] = scaled(a.a2, scale.x);
      rows[1][2 * i] = scaled(a.a1, scale.y);
      rows[1][2 * i + 1] = scaled(a.a3, scale.y);
    }
    *reinterpret_cast<uint4*>(low + 32 * half) =
        make_uint4(rows[0][0], rows[0][1], rows[0][2], rows[0][3]);
    *reinterpret_cast<uint4*>(high + 32 * half) =
        make_uint4(rows[1][0], rows[1][1], rows[1][2], rows[1][3]);
  }
}

}  // namespace

void dequantize_int4(const Int4Weights& weights, int64_t out, int64_t in_padded, __nv_bfloat16* to,
                     cudaStream_t stream) {
  const int64_t chunks = in_padded / 64;
  constexpr int kWarps = 8;
  launch(dequantize_int4_kernel,
         dim3(static_cast<unsigned>(div_up(chunks, kWarps)),
              static_cast<unsigned>(div_up(out, kRowTile))),
         dim3(kWarpSize, kWarps), 0, stream, weights, chunks, to);
}

}  // namespace narrow::ops::cuda
