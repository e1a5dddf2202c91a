// Formats of the portable kernels whose weights are rows of numbers: bf16, int8 and e4m3. A chunk
// is 64 inputs (128 of int8); a lane 4 g + t reads whole units of 16 bytes of row g, and what they
// hold is what its part of the mma tile stands for: a step's sixteen inputs (32 of int8) are four
// (eight) contiguous ones of each of the four lanes. Both operands are dealt alike.
#pragma once

#include "ops/cuda/portable.cuh"

namespace narrow::ops::cuda {

inline constexpr int kChunkSteps = 4;  // of an mma

__device__ inline uint32_t word_of(const uint4& unit, int i) {
  return i == 0 ? unit.x : i == 1 ? unit.y : i == 2 ? unit.z : unit.w;
}

struct Bf16Rows {
  using Sum = float;
  static constexpr int kWeightUnits = 8;  // of a row of a chunk
  static constexpr int kChunkInputs = 64;
  static constexpr bool kAsLoaded = true;  // operands are words of memory
  // Which unit of a row of x holds the inputs of steps 2 · pair and 2 · pair + 1.
  __device__ static int x_unit(int pair, int t) { return 4 * pair + t; }
  // Which unit of a row of weights does, and the step's words in it.
  __device__ static int weight_unit(int pair, int t) { return 4 * pair + t; }
  __device__ static void operand(const uint4& low, const uint4& high, int step, uint32_t (&a)[4]) {
    a[0] = word_of(low, step % 2 * 2), a[1] = word_of(high, step % 2 * 2);
    a[2] = word_of(low, step % 2 * 2 + 1), a[3] = word_of(high, step % 2 * 2 + 1);
  }
  __device__ static void multiply(Sum (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma_bf16(sum, a[0], a[1], a[2], a[3], b0, b1);
  }
  static constexpr bool kRowScale = false, kColumnScale = false;
  __device__ static float finish(Sum sum, float, float, float bias) { return sum + bias; }
};

struct Int8Rows : Bf16Rows {
  using Sum = int;
  static constexpr int kChunkInputs = 128;
  __device__ static void multiply(Sum (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma_int8(sum, a[0], a[1], a[2], a[3], b0, b1);
  }
  static constexpr bool kRowScale = true, kColumnScale = true;
  __device__ static float finish(Sum sum, float row_scale, float column_scale, float bias) {
    return fmaf(static_cast<float>(sum), row_scale * column_scale, bias);
  }
};

// Two e4m3 numbers (no NaN), the lower bytes of the halves of `pair` being zero, as bf16: with the
// exponent's bits where bf16's lowest ones are, a number is 2^-120 of what it stands for, denormal
// ones too. Exact.
__device__ inline uint32_t e4m3_as_bf16(uint32_t pair) {
  const uint32_t bits = (pair & 0x80008000u) | (pair >> 4 & 0x07f007f0u);
  constexpr uint32_t kTwoTo120 = 0x7b807b80;
  const auto as_bf16 = [](const uint32_t& value) {
    return *reinterpret_cast<const __nv_bfloat162*>(&value);
  };
  const __nv_bfloat162 result = __hmul2(as_bf16(bits), as_bf16(kTwoTo120));
  return *reinterpret_cast<const uint32_t*>(&result);
}

// x is bf16: weights become bf16 in registers. A lane has the inputs 16 t … 16 t + 15 of a chunk.
struct Fp8Rows : Bf16Rows {
  static constexpr int kWeightUnits = 4;
  static constexpr bool kAsLoaded = false;
  __device__ static int x_unit(int pair, int t) { return 2 * t + pair; }
  __device__ static int weight_unit(int, int t) { return t; }
  __device__ static void operand(const uint4& low, const uint4& high, int step, uint32_t (&a)[4]) {
    const uint32_t of_low = word_of(low, step), of_high = word_of(high, step);
    a[0] = e4m3_as_bf16(__byte_perm(of_low, 0, 0x1404));
    a[1] = e4m3_as_bf16(__byte_perm(of_high, 0, 0x1404));
    a[2] = e4m3_as_bf16(__byte_perm(of_low, 0, 0x3424));
    a[3] = e4m3_as_bf16(__byte_perm(of_high, 0, 0x3424));
  }
  static constexpr bool kColumnScale = true;
  __device__ static float finish(Sum sum, float, float column_scale, float bias) {
    return fmaf(sum, column_scale, bias);
  }
};

// How portable_tiles.cuh finds them in shared memory.
template <class Numbers>
struct RowFormat : Numbers {
  static constexpr int kXAtoms = 1;  // of 128 bytes of a row of x, of a chunk
  static constexpr int kSplits = 4;  // of the tile of few rows
  static constexpr int kPairs = kChunkSteps / 2;
  static constexpr int kUnits = Numbers::kWeightUnits;

  static int weight_bytes(const Product&, int outs) { return outs * kUnits * kUnitBytes; }

  // Rows of four units lie two to 128 bytes: neighbouring ones are in other places by themselves.
  __device__ static int place(int row, int unit) {
    return row * kUnits + (kUnits == kAtomUnits ? unit ^ exchange_of(row) : unit);
  }

  // A thread's share of the copies of a tile's weights, chunk after chunk.
  template <int kOuts, int kThreads>
  struct WeightCopies {
    static constexpr int kRows = kThreads / kUnits, kCopies = kOuts / kRows;
    static_assert(kOuts % kRows == 0 && kRows % 8 == 0);
    const uint8_t* from[kCopies];
    int to;

    __device__ WeightCopies(const Product& product, int out0, int thread)
        : to(place(thread / kUnits, thread % kUnits)) {
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        // Beyond the last outputs nothing is stored: any weights do.
        const int row = min(out0 + thread / kUnits + i * kRows, product.weight_rows - 1);
        from[i] = product.weight + row * product.weight_stride + thread % kUnits * kUnitBytes;
      }
    }
    __device__ void copy(const Product&, uint4* stage, int chunk) const {
#pragma unroll
      for (int i = 0; i < kCopies; ++i)
        copy_unit_async(stage + to + i * kRows * kUnits,
                        from[i] + static_cast<int64_t>(chunk) * (kUnits * kUnitBytes), true);
    }
  };

  // The operands of steps 2 · pair and 2 · pair + 1 for rows row0 … row0 + 15 of the tile.
  __device__ static void operands(const Product& product, const uint4* weights, int row0, int pair,
                                  int lane, uint32_t (&a)[2][4]) {
    const int row = row0 + lane / 4, unit = Numbers::weight_unit(pair, lane % 4);
    const uint4 low = weights[place(row, unit)], high = weights[place(row + 8, unit)];
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      Numbers::operand(low, high, 2 * pair + step, a[step]);
      if constexpr (Numbers::kAsLoaded)
        for (uint32_t& word : a[step]) word ^= product.zero;
    }
  }

  // The other operand of both steps for rows token0 … token0 + 7 of x: two words each.
  template <int kTokens>
  __device__ static uint4 inputs(const uint4* x, int token0, int pair, int lane) {
    const int row = token0 + lane / 4;
    return x[row * kAtomUnits + (Numbers::x_unit(pair, lane % 4) ^ exchange_of(row))];
  }
};

}  // namespace narrow::ops::cuda
