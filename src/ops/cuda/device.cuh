// What the kernels share: PTX instructions as functions, and the fragment layouts they imply.
//
// mma m16n8k16: lane = 4 g + t. A holds rows g and g + 8, B column g,
// the result rows g, g + 8 and columns 2t, 2t + 1 as c[0], c[1], c[2], c[3]. Which k a lane's
// elements stand for does not matter as long as A and B agree, because a sum has no order that the
// layout must keep: so every lane reads 16 contiguous bytes of a row-major matrix.
#pragma once

#include <cuda_bf16.h>

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

// 1 / x, correctly rounded.
__device__ inline float rounded_reciprocal(float x) {
  float result;
  asm("rcp.rn.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace narrow::ops::cuda
