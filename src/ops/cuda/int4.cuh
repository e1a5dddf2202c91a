// 4-bit weights on the device (int4_layout.h makes the words): a thread's word is rows g and g + 8
// of a warp's sixteen and inputs e0 … e3 = 2t, 2t + 1, 2t + 8, 2t + 9 of a step of sixteen, the
// elements that wgmma_registers() wants of it (hopper.cuh), u = code + 8:
//   nibble 0: (g, e0)      4: (g, e1)      2: (g, e2)      6: (g, e3)
//   nibble 1: (g + 8, e0)  5: (g + 8, e1)  3: (g + 8, e2)  7: (g + 8, e3)
// The bits of a bf16 below 256 are its value in units of 2^-133, subnormal or not. So a mask makes
// the pairs u · 2^-133 of row g and 16 u · 2^-133 of row g + 8, exactly. Chunks hold scales that
// take back these powers of two, up to one per output (Int4Weights::scale), which sums are
// multiplied with at last: every number on the way is the weight bf16((code - zero point) · scale)
// that all backends have, times a power of two, rounded as it is and once.
#pragma once

#include "ops/cuda/device.cuh"
#include "ops/cuda/kernels.h"

namespace narrow::ops::cuda {

__host__ __device__ constexpr int first_int4_chunk(int part, int chunks) {
  return part * chunks / kInt4Parts;
}

// Of the symmetric weights' 8: what the masks make of it for rows g and g + 8.
inline constexpr uint32_t kSymmetricOffsets = 0x00800008;

// A pair of bf16, as bits.
__device__ inline const __nv_bfloat162& as_pair(const uint32_t& bits) {
  return *reinterpret_cast<const __nv_bfloat162*>(&bits);
}
__device__ inline uint32_t bits_of(const __nv_bfloat162& pair) {
  return *reinterpret_cast<const uint32_t*>(&pair);
}

__device__ inline void spread(uint32_t pair, uint32_t (&twice)[2]) {
  twice[0] = __byte_perm(pair, 0, 0x1010);
  twice[1] = __byte_perm(pair, 0, 0x3232);
}

// What the weights of one group in rows g and g + 8 have in common, each number twice.
template <bool kOffsets>
struct Int4Group {
  uint32_t scale[2];
  uint32_t other[2];  // offsets; of symmetric weights -8 · scale, which is exact

  Int4Group() = default;
  // Words of a chunk; offsets: of others than symmetric weights.
  __device__ Int4Group(uint32_t scales, uint32_t offsets) {
    spread(scales, scale);
    if (kOffsets) {
      spread(offsets, other);
    } else {
      constexpr uint32_t kNegative = 0x80008000;
      other[0] = bits_of(__hmul2(as_pair(scale[0]), as_pair(kNegative | 0x00080008)));
      other[1] = bits_of(__hmul2(as_pair(scale[1]), as_pair(kNegative | 0x00800080)));
    }
  }

  // The operand of a step.
  __device__ void weights(uint32_t word, uint32_t (&a)[4]) const {
    a[0] = weight(word & 0x000f000f, 0);
    a[1] = weight(word & 0x00f000f0, 1);
    a[2] = weight(word >> 8 & 0x000f000f, 0);
    a[3] = weight(word >> 8 & 0x00f000f0, 1);
  }

 private:
  __device__ uint32_t weight(uint32_t units, int row) const {
    if (kOffsets)
      return bits_of(__hmul2(__hsub2(as_pair(units), as_pair(other[row])), as_pair(scale[row])));
    return bits_of(__hfma2(as_pair(units), as_pair(scale[row]), as_pair(other[row])));
  }
};

}  // namespace narrow::ops::cuda
