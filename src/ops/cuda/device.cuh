// What the kernels share: PTX instructions as functions, and the fragment layouts they imply.
//
// mma m16n8k16: lane = 4 g + t. A holds rows g and g + 8, B column g,
// the result rows g, g + 8 and columns 2t, 2t + 1 as c[0], c[1], c[2], c[3]. Which k a lane's
// elements stand for does not matter as long as A and B agree, because a sum has no order that the
// layout must keep: so every lane reads 16 contiguous bytes of a row-major matrix.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <cstdint>

namespace narrow::ops::cuda {

inline constexpr int kWarpSize = 32;

// Programmatic dependent launch: a kernel may start while the one before it still runs. Everything
// that the earlier one wrote is visible after this wait; weights may be read before it.
//
// A product lets the next kernel start only when its own wait is over. So whatever runs before the
// product of its layer that a kernel follows has ended when the kernel starts: attention of single
// rows reads the step's metadata and what earlier steps left in the cache before it waits.
__device__ inline void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ inline void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ inline void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// The same over 32 inputs of int8, four to a word.
__device__ inline void mma_int8(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Four matrices of 8 × 8 elements of 16 bits, lane i giving the row i % 8 of matrix i / 8: of each
// a lane gets row g, columns 2t and 2t + 1.
__device__ inline uint4 load_matrices(const void* row) {
  uint4 result;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(result.x), "=r"(result.y), "=r"(result.z), "=r"(result.w)
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
  return result;
}

// The same transposed, by the shared address of a row: of each a lane gets column g, rows 2t and
// 2t + 1.
__device__ inline uint4 load_transposed(uint32_t row) {
  uint4 result;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(result.x), "=r"(result.y), "=r"(result.z), "=r"(result.w)
               : "r"(row)
               : "memory");
  return result;
}

// A barrier of kCount threads that name the same one of the block's sixteen, of which
// __syncthreads() has the first.
template <int kCount>
__device__ inline void sync_threads(int barrier) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(kCount) : "memory");
}

// Of what lies in shared memory, as instructions take it.
__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// The memory that a launch gives each block.
__device__ inline uint4* block_memory() {
  extern __shared__ uint4 launch_memory[];
  return launch_memory;
}
// The same, declared in the kernel as bytes of this name: of a pointer that a function gives ptxas
// makes other code in products of 4-bit weights and in those that two blocks share.
#define NARROW_BLOCK_BYTES(name) extern __shared__ uint8_t name[]

// Two, four or eight bytes of shared memory, which copies have brought: stores of the same thread
// before it need not be seen.
template <class T>
__device__ inline T load_shared(uint32_t at) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8);
  if constexpr (sizeof(T) == 8) {
    uint2 bytes;
    asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(bytes.x), "=r"(bytes.y) : "r"(at));
    return *reinterpret_cast<T*>(&bytes);
  } else if constexpr (sizeof(T) == 4) {
    uint32_t bytes;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(bytes) : "r"(at));
    return *reinterpret_cast<T*>(&bytes);
  } else {
    uint16_t bytes;
    asm volatile("ld.shared.b16 %0, [%1];" : "=h"(bytes) : "r"(at));
    return *reinterpret_cast<T*>(&bytes);
  }
}

// Two words of global memory by a load each: one for both would tie them to registers that lie
// together, from which they would be copied to those of an operand each time.
__device__ inline void load_apart(const void* from, uint32_t& first, uint32_t& second) {
  asm volatile("ld.global.b32 %0, [%2];\n\tld.global.b32 %1, [%2 + 4];"
               : "=&r"(first), "=r"(second)
               : "l"(from));
}

// 2^x to a few units of float32's last place; denormal numbers count as zero.
__device__ inline float power_of_two(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

__device__ inline uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

__device__ inline float2 unpack_bf16(uint32_t pair) {
  return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&pair));
}

// 16 bytes that are read once: past L1, first to be evicted.
__device__ inline uint4 load_streaming(const void* address) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address));
  return value;
}

__device__ inline uint2 load_streaming_8(const void* address) {
  uint2 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2];"
               : "=r"(value.x), "=r"(value.y)
               : "l"(address));
  return value;
}

// Eight bytes past L1 that kernels write.
__device__ inline uint2 load_past_l1(const void* address) {
  uint2 value;
  asm volatile("ld.global.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2];"
               : "=r"(value.x), "=r"(value.y)
               : "l"(address));
  return value;
}

// Adds one to a number in global memory, or makes it zero where it is `last`; what it was. Releases
// what was written before and acquires what others have released so.
__device__ inline uint32_t count_up_to(uint32_t last, uint32_t* number) {
  uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(number), "r"(last)
               : "memory");
  return before;
}

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
  __device__ explicit Quotient(float divisor) : divisor_(divisor) {
    asm("rcp.rn.f32 %0, %1;" : "=f"(reciprocal_) : "f"(divisor));
  }
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
