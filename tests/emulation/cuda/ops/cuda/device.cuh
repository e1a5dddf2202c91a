// In place of src/ops/cuda/device.cuh on the host: those of its functions that the kernels run here
// use, without instructions.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "emulation/block.h"
#include "tensor/dtype.h"

namespace narrow::ops::cuda {

inline constexpr int kWarpSize = 32;

inline void wait_for_previous_kernel() {
  if (const auto once = std::exchange(emulation::before_wait, nullptr)) once();
}
inline void let_next_kernel_start() {}

inline void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                     uint32_t b1) {
  emulation::mma_bf16(c, {a0, a1, a2, a3}, {b0, b1});
}

inline void mma_int8(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                     uint32_t b1) {
  emulation::mma_int8(c, {a0, a1, a2, a3}, {b0, b1});
}

inline uint4 load_matrices(const void* row) {
  uint32_t words[4];
  emulation::load_matrices(row, words);
  return {words[0], words[1], words[2], words[3]};
}
inline uint4 load_transposed(uint32_t row) {
  uint32_t words[4];
  emulation::load_transposed(row, words);
  return {words[0], words[1], words[2], words[3]};
}

template <int kCount>
void sync_threads(int barrier) {
  emulation::sync_named(barrier, kCount);
}

inline uint4* block_memory() { return reinterpret_cast<uint4*>(emulation::block_memory()); }
#define NARROW_BLOCK_BYTES(name) \
  uint8_t* const name = reinterpret_cast<uint8_t*>(emulation::block_memory())
inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(static_cast<const std::byte*>(pointer) - emulation::block_memory());
}

template <class T>
T load_shared(uint32_t at) {
  T value;
  emulation::read_shared(at, &value, sizeof(T));
  return value;
}

inline uint4 load_streaming(const void* address) { return *static_cast<const uint4*>(address); }

inline uint2 load_past_l1(const void* address) { return *static_cast<const uint2*>(address); }
inline uint32_t count_up_to(uint32_t last, uint32_t* number) {
  const uint32_t before = *number;
  *number = before >= last ? 0 : before + 1;
  return before;
}

inline void load_apart(const void* from, uint32_t& first, uint32_t& second) {
  std::memcpy(&first, from, sizeof first);
  std::memcpy(&second, static_cast<const std::byte*>(from) + sizeof first, sizeof second);
}

inline float power_of_two(float x) { return std::exp2(x); }

inline uint32_t pack_bf16(float low, float high) {
  return to_bf16(low).bits | static_cast<uint32_t>(to_bf16(high).bits) << 16;
}

inline float2 unpack_bf16(uint32_t pair) {
  const auto half = [](uint32_t bits) { return to_float(bf16{static_cast<uint16_t>(bits)}); };
  return {half(pair & 0xffff), half(pair >> 16)};
}
inline float rounded_reciprocal(float x) { return 1 / x; }

}  // namespace narrow::ops::cuda
