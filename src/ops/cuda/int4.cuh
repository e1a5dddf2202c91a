// 4-bit weights on the device (int4_layout.h makes the words): a thread's word is rows g and g + 8
// of a warp's sixteen and inputs e0 … e3 = 2t, 2t + 1, 2t + 8, 2t + 9 of a step of sixteen, the
// elements that wgmma_registers() wants of it (hopper.cuh):
//   nibble 0: (g, e0)      4: (g, e1)      2: (g, e2)      6: (g, e3)
//   nibble 1: (g + 8, e0)  5: (g + 8, e1)  3: (g + 8, e2)  7: (g + 8, e3)
// so that a mask and an or make a pair of bf16 128 + u, u = code + 8, exactly; subtracting the
// offset 128 + 8 + zero point leaves an integer, which bf16 holds exactly too, and multiplying with
// the scale rounds once: the value is bf16((code - zero point) · scale), as in every backend.
#pragma once

#include "ops/cuda/device.cuh"
#include "ops/cuda/kernels.h"

namespace narrow::ops::cuda {

__device__ inline int first_int4_chunk(int part, int chunks) { return part * chunks / kInt4Parts; }

inline constexpr uint32_t kSymmetricOffset = 0x43084308;  // bf16 136, twice

// Of rows g and g + 8, each twice.
struct Int4Scale {
  uint32_t low, high;
};

// Both halves of a pair of bf16 twice.
__device__ inline Int4Scale spread(uint32_t pair) {
  return {__byte_perm(pair, 0, 0x1010), __byte_perm(pair, 0, 0x3232)};
}

__device__ inline void dequantize_int4(uint32_t word, Int4Scale scale, Int4Scale offset,
                                       uint32_t (&a)[4]) {
  uint32_t mask;
  asm volatile("mov.b32 %0, 0x000f000f;" : "=r"(mask));
  const auto value = [mask](uint32_t nibbles, uint32_t offset, uint32_t scale) {
    // (nibbles & mask) | bf16 128 twice, in one instruction: from C++ the compiler makes two.
    uint32_t pair;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(pair) : "r"(nibbles), "r"(mask), "n"(0x43004300));
    const auto as_bf16 = [](const uint32_t& bits) {
      return *reinterpret_cast<const __nv_bfloat162*>(&bits);
    };
    const __nv_bfloat162 result = __hmul2(__hsub2(as_bf16(pair), as_bf16(offset)), as_bf16(scale));
    return *reinterpret_cast<const uint32_t*>(&result);
  };
  a[0] = value(word, offset.low, scale.low);
  a[1] = value(word >> 4, offset.high, scale.high);
  a[2] = value(word >> 8, offset.low, scale.low);
  a[3] = value(word >> 12, offset.high, scale.high);
}

}  // namespace narrow::ops::cuda
