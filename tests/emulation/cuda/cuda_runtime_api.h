// In place of NVIDIA's header: what kernels that run on the host (emulation/block.h) use of CUDA.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "emulation/block.h"

#define __device__
#define __host__
#define __global__
#define __shared__ static thread_local  // a block has a thread of the host
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define threadIdx narrow::emulation::thread_index
#define blockIdx narrow::emulation::block_index
#define gridDim narrow::emulation::grid_size
#define blockDim narrow::emulation::block_size

using cudaStream_t = void*;
using cudaError_t = int;
using cudaDriverEntryPointQueryResult = int;
enum { cudaSuccess, cudaErrorInvalidValue, cudaEnableDefault };

// Of cuTensorMapEncodeTiled alone.
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned version,
                                             int flags, cudaDriverEntryPointQueryResult* result);

struct uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned of_x, unsigned of_y = 1, unsigned of_z = 1) : x(of_x), y(of_y), z(of_z) {}
};
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }

using std::max;
using std::min;

inline void __syncthreads() { narrow::emulation::sync_block(); }
inline bool __all_sync(uint32_t, bool value) { return narrow::emulation::is_true_in_warp(value); }
inline void __syncwarp() { narrow::emulation::sync_warp(); }
namespace narrow::emulation {
template <class T>  // of four or eight bytes
T exchange_value(T value, int lane) {
  if constexpr (sizeof(T) == 4) {
    return std::bit_cast<T>(exchange(std::bit_cast<uint32_t>(value), lane));
  } else {
    const auto bits = std::bit_cast<uint64_t>(value);
    const uint64_t low = exchange(static_cast<uint32_t>(bits), lane);
    const uint64_t high = exchange(static_cast<uint32_t>(bits >> 32), lane);
    return std::bit_cast<T>(high << 32 | low);
  }
}
}  // namespace narrow::emulation
template <class T>
T __shfl_xor_sync(uint32_t, T value, int mask) {
  return narrow::emulation::exchange_value(value, threadIdx.x % 32 ^ mask);
}
template <class T>
T __shfl_up_sync(uint32_t, T value, int by) {
  const int lane = threadIdx.x % 32;
  return narrow::emulation::exchange_value(value, lane < by ? lane : lane - by);
}

template <class T>
T __shfl_down_sync(uint32_t, T value, int by) {
  const int lane = threadIdx.x % 32;
  return narrow::emulation::exchange_value(value, lane + by < 32 ? lane + by : lane);
}

inline uint32_t __reduce_max_sync(uint32_t, uint32_t value) {
  for (int mask = 16; mask > 0; mask /= 2)
    value = std::max(value, narrow::emulation::exchange(value, threadIdx.x % 32 ^ mask));
  return value;
}

template <class T>
T __shfl_sync(uint32_t, T value, int lane) {
  return narrow::emulation::exchange_value(value, lane);
}
inline float __shfl_sync(uint32_t lanes, float value, int lane, int width) {
  const int of_warp = threadIdx.x % 32 / width * width + lane;
  return std::bit_cast<float>(
      narrow::emulation::exchange_among(lanes, std::bit_cast<uint32_t>(value), of_warp));
}

template <class T>
T __ldg(const T* at) {
  return *at;
}
template <class T>
T __ldcg(const T* at) {
  return *at;
}
inline uint32_t __float_as_uint(float value) { return std::bit_cast<uint32_t>(value); }
inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
template <class T>
void atomicMax(T* at, T value) {
  *at = std::max(*at, value);
}
template <class T>
T atomicAdd(T* at, int value) {
  const T before = *at;
  *at += static_cast<T>(value);
  return before;
}
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
// Bytes of y : x, which the nibbles of `which` number.
inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t which) {
  const uint64_t bytes = static_cast<uint64_t>(y) << 32 | x;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i)
    result |= static_cast<uint32_t>(bytes >> 8 * (which >> 4 * i & 7) & 0xff) << 8 * i;
  return result;
}
