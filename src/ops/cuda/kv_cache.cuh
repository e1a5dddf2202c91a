// Numbers of the KV cache: bf16, or codes of e4m3 as bytes. Whatever is computed with them is
// computed in bf16, which has every e4m3 number: attention's order of sums, and so its bits, are
// those of a cache that holds the same numbers in bf16.
#pragma once

#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "ops/cuda/device.cuh"
#include "ops/cuda/kernels.h"

namespace narrow::ops::cuda {

using e4m3_t = uint8_t;

__device__ inline float number_of(__nv_bfloat16 number) { return __bfloat162float(number); }
__device__ inline float number_of(e4m3_t code) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(code, __NV_E4M3)));
}

__device__ inline void store_rounded(float value, __nv_bfloat16* to) {
  *to = __float2bfloat16_rn(value);
}
__device__ inline void store_rounded(float value, e4m3_t* to) {
  *to = __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
}

// Two codes in the low half of a word as a pair of bf16.
__device__ inline uint32_t widen_pair(uint32_t codes) {
  const float2 pair =
      __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(static_cast<uint16_t>(codes), __NV_E4M3)));
  return pack_bf16(pair.x, pair.y);
}

// kCount (2 or 4) numbers that lie side by side, as loaded.
template <class Kv, int kCount>
struct Numbers;
template <int kCount>
struct alignas(2 * kCount) Numbers<__nv_bfloat16, kCount> {
  uint32_t pair[kCount / 2];
  __device__ uint32_t widened(int i) const { return pair[i]; }  // numbers 2i, 2i + 1
};
template <int kCount>
struct alignas(kCount) Numbers<e4m3_t, kCount> {
  uint16_t pair[kCount / 2];
  __device__ uint32_t widened(int i) const { return widen_pair(pair[i]); }
};

// The i-th numbers of two tokens as a pair.
__device__ inline uint32_t across(uint32_t first, uint32_t second, int i) {
  return __byte_perm(first, second, i == 0 ? 0x5410 : 0x7632);
}

}  // namespace narrow::ops::cuda
