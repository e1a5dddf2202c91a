// A row of bf16 numbers in the registers of a block, and its codes. Every sum is in an order that
// the row's length fixes: so a row's bits do not depend on the other rows.
#pragma once

#include <algorithm>
#include <type_traits>

#include "ops/cuda/device.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numbers.cuh"
#include "ops/cuda/packed.cuh"

namespace narrow::ops::cuda {

// Over the whole block, the same value in every thread, in an order fixed by the block's size.
// scratch: 32 values of shared memory, for this reduction alone.
template <class Reduce>
__device__ float block_reduce(float value, float neutral, float* scratch, Reduce reduce_warp) {
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int warps = (blockDim.x + kWarpSize - 1) / kWarpSize;
  value = reduce_warp(value);
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  return reduce_warp(lane < warps ? scratch[lane] : neutral);
}

// What one thread holds of a row: kSlots pieces of kWidth numbers, kWidth · blockDim apart.
template <int kWidth, int kSlots>
struct RowPart {
  Packed<kWidth> piece[kSlots];

  // function(column, slot) for the pieces that the row has.
  template <class Function>
  __device__ static void for_each(int64_t cols, Function function) {
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      const int64_t column = (static_cast<int64_t>(slot) * blockDim.x + threadIdx.x) * kWidth;
      if (column < cols) function(column, slot);
    }
  }
};

// Code that a block runs once comes from far away, at a price for every few instructions. So a
// block of few rows runs it twice, at first on zeros while the kernel before this one ends: a
// rehearsal, which writes nothing to memory. With 128 rows int8 lost by it
// (docs/performance/step.md).
inline bool rehearses(int64_t rows) { return rows <= 64 && has_clusters(); }

struct NoRehearsal {
  __device__ constexpr operator bool() const { return false; }
};

// Calls run(rehearsal), with a bool where there is one.
template <bool kRehearses, class Run>
__device__ void rehearse_and_run(Run run) {
  if constexpr (kRehearses) {
#pragma unroll 1
    for (int i = 0; i < 2; ++i) run(i == 0);
  } else {
    run(NoRehearsal());
  }
}

// Stores, except in a rehearsal, which computes the value all the same.
template <class Rehearsal, class T>
__device__ void store_unless(Rehearsal rehearsal, T value, T* to) {
  if constexpr (std::is_same_v<Rehearsal, bool>) {
    static_assert(sizeof(T) % 4 == 0);
    // The compiler may not move the computation behind the condition.
    auto& words = reinterpret_cast<uint32_t(&)[sizeof(T) / 4]>(value);
#pragma unroll
    for (uint32_t& word : words) asm volatile("" : "+r"(word));
  }
  if (!rehearsal) *to = value;
}

template <class Code, class Rehearsal = NoRehearsal>
__device__ void store_codes(float (&value)[8], const Divisor& scale, uint8_t* to,
                            Rehearsal rehearsal = {}) {
  scale.divide(value);
  store_unless(rehearsal,
               uint2{Code::encode(value[0], value[1], value[2], value[3]),
                     Code::encode(value[4], value[5], value[6], value[7])},
               reinterpret_cast<uint2*>(to));
}
template <class Code, class Rehearsal = NoRehearsal>
__device__ void store_codes(float (&value)[1], const Divisor& scale, uint8_t* to,
                            Rehearsal rehearsal = {}) {
  scale.divide(value);
  if (!rehearsal) *to = static_cast<uint8_t>(Code::encode(value[0]));
}

// Codes of the row that the block holds in `part`. scratch: as block_reduce has it, but that it may
// be used again after a rehearsal, of which no result counts.
template <class Code, int kWidth, int kSlots, class Rehearsal>
__device__ void quantize(const RowPart<kWidth, kSlots>& part, const QuantizedRows& to, int64_t row,
                         int64_t cols, float* scratch, Rehearsal rehearsal) {
  float value[kWidth];
  __nv_bfloat162 pair{};
  part.for_each(cols, [&](int64_t, int slot) { pair = part.piece[slot].largest(pair); });
  const float largest = block_reduce(fmaxf(__low2float(pair), __high2float(pair)), 0, scratch,
                                     [](float v) { return warp_max(v); });
  const float scale = scale_of(largest, Code::kGrid);
  const Divisor divisor(scale);
  uint8_t* codes = to.codes + row * to.stride;
  part.for_each(cols, [&](int64_t c, int slot) {
    part.piece[slot].unpack(value);
    store_codes<Code>(value, divisor, codes + c, rehearsal);
  });
  if (rehearsal) return;
  for (int64_t c = cols + threadIdx.x; c < to.stride; c += blockDim.x) codes[c] = 0;
  if (threadIdx.x == 0) to.scales[row] = scale;
}

template <int kWidth, int kSlots, class Rehearsal = NoRehearsal>
__device__ void quantize(const RowPart<kWidth, kSlots>& part, const QuantizedRows& to, int64_t row,
                         int64_t cols, float* scratch, Rehearsal rehearsal = {}) {
  if (to.kind == Codes::int8) quantize<Int8Code>(part, to, row, cols, scratch, rehearsal);
  if (to.kind == Codes::fp8) quantize<Fp8Code>(part, to, row, cols, scratch, rehearsal);
}

inline constexpr int64_t kMostThreads = 1024;  // of a block that holds a row
// For __launch_bounds__ of kernels that for_row_shape() launches. 0, no bound: a thread of few
// slots needs so few registers that all fit, and with a bound ptxas makes other code of it.
constexpr int threads_bound(int slots) { return slots >= 8 ? int{kMostThreads} : 0; }

// Chooses width and slots for a row: a block of some `wanted` threads holds it whole, of up to
// kMostThreads where that is not enough.
template <class Launch>
void for_row_shape(int64_t cols, int64_t wanted, Launch launch_with) {
  const int width = cols % 8 == 0 ? 8 : 1;
  const int64_t vectors = cols / width;
  const auto with = [&](auto width_constant, auto slots) {
    launch_with(width_constant, slots,
                static_cast<unsigned>(div_up(div_up(vectors, slots()), kWarpSize) * kWarpSize));
  };
  using std::integral_constant;
  if (width == 8 && vectors <= wanted) {
    with(integral_constant<int, 8>(), integral_constant<int, 1>());
  } else if (width == 8 && vectors <= 2 * wanted) {
    with(integral_constant<int, 8>(), integral_constant<int, 2>());
  } else if (width == 8 && vectors <= 4 * wanted) {
    with(integral_constant<int, 8>(), integral_constant<int, 4>());
  } else if (width == 8 && vectors <= 8 * kMostThreads) {  // Llama-3.1-405B has rows of 53 248
    with(integral_constant<int, 8>(), integral_constant<int, 8>());
  } else if (width == 1 && vectors <= 16 * kMostThreads) {
    with(integral_constant<int, 1>(), integral_constant<int, 16>());
  } else {
    check(cudaErrorInvalidValue, "rows wider than 65536 columns");
  }
}

}  // namespace narrow::ops::cuda
