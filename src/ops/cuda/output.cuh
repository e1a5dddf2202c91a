// What a product leaves in its result: numbers in float32, numbers rounded to bf16, or these added
// to what is there. Each number of a result is one thread's.
#pragma once

#include "ops/cuda/device.cuh"
#include "ops/cuda/kernels.h"

namespace narrow::ops::cuda {

// Whether rows of y in bf16 begin at multiples of sixteen bytes.
__host__ __device__ inline bool has_aligned_rows(const Output& y) {
  return y.stride % 8 == 0 && reinterpret_cast<uintptr_t>(y.data) % 16 == 0;
}

// Whether they end there too.
__host__ __device__ inline bool has_whole_pieces(int64_t out, const Output& y) {
  return out % 8 == 0 && has_aligned_rows(y);
}

// Two pairs of bf16. Each sum is rounded once: float32 has more than twice their bits.
__device__ inline uint32_t add_bf16(uint32_t a, uint32_t b) {
  const float2 x = unpack_bf16(a), y = unpack_bf16(b);
  return pack_bf16(x.x + y.x, x.y + y.y);
}

// What a number of y has been, of a y that is added to.
__device__ inline float number_before(const Output& y, int64_t row, int64_t column) {
  if (!y.adds) return 0;
  return __bfloat162float(static_cast<const __nv_bfloat16*>(y.data)[row * y.stride + column]);
}

// y[row][column].  before: number_before() of it
__device__ inline void store_number(const Output& y, int64_t row, int64_t column, float value,
                                    float before) {
  const int64_t at = row * y.stride + column;
  if (y.f32) {
    static_cast<float*>(y.data)[at] = value;
    return;
  }
  __nv_bfloat16 rounded = __float2bfloat16_rn(value);
  if (y.adds) rounded = __float2bfloat16_rn(before + __bfloat162float(rounded));
  static_cast<__nv_bfloat16*>(y.data)[at] = rounded;
}
__device__ inline void store_number(const Output& y, int64_t row, int64_t column, float value) {
  store_number(y, row, column, value, number_before(y, row, column));
}

// y[row][column … column + 7] of bf16, rounded: four pairs at a multiple of sixteen bytes.
__device__ inline void store_eight(const Output& y, int64_t row, int64_t column, uint4 pairs) {
  auto* const to =
      reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(y.data) + row * y.stride + column);
  if (!y.adds) {
    *to = pairs;
    return;
  }
#if __CUDA_ARCH__ >= 900
  // Rounds as below, and the thread does not wait for what is there.
  asm volatile("red.relaxed.gpu.global.add.noftz.v4.bf16x2 [%0], {%1, %2, %3, %4};" ::"l"(to),
               "r"(pairs.x), "r"(pairs.y), "r"(pairs.z), "r"(pairs.w)
               : "memory");
#else
  const uint4 before = *to;
  *to = make_uint4(add_bf16(before.x, pairs.x), add_bf16(before.y, pairs.y),
                   add_bf16(before.z, pairs.z), add_bf16(before.w, pairs.w));
#endif
}

}  // namespace narrow::ops::cuda
