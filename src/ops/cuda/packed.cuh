// Numbers of bf16 that a thread loads, computes with and stores at a time.
#pragma once

#include "ops/cuda/device.cuh"
#include "ops/cuda/numbers.cuh"

namespace narrow::ops::cuda {

// Eight numbers, or one where rows are no multiple of eight.
template <int kWidth>
struct Packed;
template <>
struct Packed<8> {
  uint4 words;
  __device__ static Packed load(const __nv_bfloat16* from) {
    return {*reinterpret_cast<const uint4*>(from)};
  }
  __device__ void store(__nv_bfloat16* to) const { *reinterpret_cast<uint4*>(to) = words; }
  __device__ static Packed round(const float (&value)[8]) {
    return {make_uint4(pack_bf16(value[0], value[1]), pack_bf16(value[2], value[3]),
                       pack_bf16(value[4], value[5]), pack_bf16(value[6], value[7]))};
  }
  // The larger of `so_far` and every magnitude here, pair by pair.
  __device__ __nv_bfloat162 largest(__nv_bfloat162 so_far) const {
    const uint32_t pairs[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (const uint32_t& pair : pairs)
      so_far = __hmax2(so_far, __habs2(*reinterpret_cast<const __nv_bfloat162*>(&pair)));
    return so_far;
  }
  __device__ void unpack(float (&value)[8]) const {
    const uint32_t pairs[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = unpack_bf16(pairs[i]);
      value[2 * i] = pair.x;
      value[2 * i + 1] = pair.y;
    }
  }
};
template <>
struct Packed<1> {
  __nv_bfloat16 number;
  __device__ static Packed load(const __nv_bfloat16* from) { return {*from}; }
  __device__ void store(__nv_bfloat16* to) const { *to = number; }
  __device__ __nv_bfloat162 largest(__nv_bfloat162 so_far) const {
    return __hmax2(so_far, __bfloat162bfloat162(__habs(number)));
  }
  __device__ static Packed round(const float (&value)[1]) {
    return {__float2bfloat16_rn(value[0])};
  }
  __device__ void unpack(float (&value)[1]) const { value[0] = __bfloat162float(number); }
};

// silu(gate) · up, rounded.
template <int kWidth>
__device__ inline Packed<kWidth> silu_mul(const __nv_bfloat16* gate, const __nv_bfloat16* up) {
  float value[kWidth], factor[kWidth];
  Packed<kWidth>::load(gate).unpack(value);
  Packed<kWidth>::load(up).unpack(factor);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) value[i] = silu(value[i]) * factor[i];
  return Packed<kWidth>::round(value);
}

}  // namespace narrow::ops::cuda
