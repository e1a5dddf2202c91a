// 4-bit weights on the device (int4_layout.h makes the words): a lane's 16 bytes are rows g and
// g + 8 of a row tile and 64 inputs. Word s holds inputs e0 … e3 = 32 (s / 2) + 8t + 4 (s % 2) + 0
// … 3:
//   nibble 0: (g, e0)      4: (g, e1)      2: (g, e2)      6: (g, e3)
//   nibble 1: (g + 8, e0)  5: (g + 8, e1)  3: (g + 8, e2)  7: (g + 8, e3)
// so that a mask and an or make a pair of bf16 128 + u, u = code + 8, exactly; subtracting the
// offset 128 + zero point (136 when symmetric) leaves the integer, which bf16 holds exactly too.
#pragma once

#include "ops/cuda/device.cuh"
#include "ops/cuda/kernels.h"

namespace narrow::ops::cuda {

inline constexpr uint32_t kSymmetricOffset = 0x43084308;  // bf16 136, twice

struct Int4Pairs {
  uint32_t a0, a1, a2, a3;  // (g; e0, e1)  (g + 8; e0, e1)  (g; e2, e3)  (g + 8; e2, e3)
};

__device__ inline uint32_t subtract_bf16(uint32_t a, uint32_t b) {
  const __nv_bfloat162 difference = __hsub2(*reinterpret_cast<const __nv_bfloat162*>(&a),
                                            *reinterpret_cast<const __nv_bfloat162*>(&b));
  return *reinterpret_cast<const uint32_t*>(&difference);
}

__device__ inline Int4Pairs unpack_int4(uint32_t word, uint32_t offset_low, uint32_t offset_high) {
  const auto pair = [](uint32_t w) { return (w & 0x000f000fu) | 0x43004300u; };
  return {subtract_bf16(pair(word), offset_low), subtract_bf16(pair(word >> 4), offset_high),
          subtract_bf16(pair(word >> 8), offset_low), subtract_bf16(pair(word >> 12), offset_high)};
}

// Both halves of a bf16 pair twice: what rows g and g + 8 subtract.
__device__ inline uint32_t twice_low(uint32_t pair) { return __byte_perm(pair, 0, 0x1010); }
__device__ inline uint32_t twice_high(uint32_t pair) { return __byte_perm(pair, 0, 0x3232); }

}  // namespace narrow::ops::cuda
