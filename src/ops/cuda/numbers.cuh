// Arithmetic on numbers of rows, for kernels that have to agree in the last bit: what norms, the
// activation function, the rotation and the codes of quantized rows are made of. Without
// instructions of its own, so that it runs on the host as it is written (tests/emulation/block.h).
#pragma once

#include <cuda_fp8.h>

#include <cstdint>

#include "ops/cuda/device.cuh"

namespace narrow::ops::cuda {

// Numbers of a table that no kernel writes, with the fewest loads: what a warp asks for at once is
// sixteen bytes a lane, where single numbers, `kCount` apart, would be as many lines for four
// bytes. from: on a boundary of sixteen bytes where kCount is a multiple of four.
template <int kCount>
__device__ inline void load_table(const float* from, float (&to)[kCount]) {
  if constexpr (kCount % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const float4 four = __ldg(reinterpret_cast<const float4*>(from + i));
      to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = __ldg(from + i);
  }
}

// Of magnitudes, whose order is that of their bits: one instruction.
__device__ inline float warp_max(float magnitude) {
  return __uint_as_float(__reduce_max_sync(0xffffffffu, __float_as_uint(magnitude)));
}

__device__ inline float warp_sum(float value) {
  for (int offset = 16; offset > 0; offset /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

// The pair (a, b) turned by the angle of this cosine and sine; contracted in one way wherever it is
// called.
__device__ inline float2 rotate(float a, float b, float cosine, float sine) {
  return make_float2(fmaf(a, cosine, -__fmul_rn(b, sine)), fmaf(b, cosine, __fmul_rn(a, sine)));
}

// To a few units of float32's last place, of which bf16 keeps none.
__device__ inline float silu(float x) { return __fdividef(x, 1 + __expf(-x)); }

// 1 / sqrt(mean(x²) + epsilon)
__device__ inline float norm_factor(float squares, int64_t cols, float epsilon) {
  return 1 / sqrtf(squares / static_cast<float>(cols) + epsilon);
}

// docs/formats.md: the scale of a row, its smallest positive stand-in for a row of zeros, its
// codes.
__device__ inline float scale_of(float largest, float grid) {
  const float scale = __fdiv_rn(largest, grid);
  return scale > 0 ? scale : 1.1920928955078125e-07f;
}

// Correctly rounded quotients by one divisor, as long as nothing is denormal: from the correctly
// rounded reciprocal, a quotient and its exact remainder (Markstein, "Computation of elementary
// functions on the IBM RISC System/6000 processor", 1990, theorem 8.6).
class Quotient {
 public:
  __device__ explicit Quotient(float divisor)
      : divisor_(divisor), reciprocal_(rounded_reciprocal(divisor)) {}
  __device__ float operator()(float value) const {
    const float near = __fmul_rn(value, reciprocal_);
    return fmaf(fmaf(-near, divisor_, value), reciprocal_, near);
  }

 private:
  float divisor_, reciprocal_;
};

// The same by any positive divisor whose quotients are normal numbers or zero: small numbers are
// multiplied by a power of two first, which changes no quotient.
class Divisor {
 public:
  __device__ explicit Divisor(float divisor)
      : small_(divisor < 1e-30f), quotient_(small_ ? divisor * kLarge : divisor) {}
  template <int kCount>
  __device__ void divide(float (&value)[kCount]) const {
    if (small_)
#pragma unroll
      for (float& v : value) v *= kLarge;
#pragma unroll
    for (float& v : value) v = quotient_(v);
  }

 private:
  static constexpr float kLarge = 0x1p64f;
  bool small_;
  Quotient quotient_;
};

// Codes of quotients, the first in the lowest byte. Conversions go at a quarter of the rate of
// other arithmetic or less: so int8 takes the low bits of a sum that no longer has a fraction
// (rounded half to even), e4m3 two numbers at once.
struct Int8Code {
  static constexpr float kGrid = 127.5f;
  __device__ static uint32_t encode(float quotient) {
    return __float_as_uint(__fadd_rn(fminf(fmaxf(quotient, -128.0f), 127.0f), 0x1.8p23f));
  }
  __device__ static uint32_t encode(float a, float b, float c, float d) {
    return __byte_perm(__byte_perm(encode(a), encode(b), 0x0040),
                       __byte_perm(encode(c), encode(d), 0x0040), 0x5410);
  }
};

struct Fp8Code {
  static constexpr float kGrid = 448.0f;
  __device__ static uint32_t encode(float quotient) {
    return __nv_cvt_float_to_fp8(quotient, __NV_SATFINITE, __NV_E4M3);
  }
  __device__ static uint32_t encode(float a, float b, float c, float d) {
    const auto pair = [](float low, float high) -> uint32_t {
      return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, __NV_E4M3);
    };
    return pair(a, b) | pair(c, d) << 16;
  }
};

}  // namespace narrow::ops::cuda
