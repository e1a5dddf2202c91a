// What becomes of a tile of sums (gemm.cuh): scales, bias, for a gated product the activation
// function, and the way to memory.
#pragma once

#include <type_traits>

#include "ops/cuda/device.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/numbers.cuh"
#include "ops/cuda/output.cuh"

namespace narrow::ops::cuda {

struct GemmOutput {
  int rows, out;              // of y
  const float* row_scale;     // 8-bit types
  const float* column_scale;  // 8-bit types
  uint32_t* largest;          // as Gemm has it
  Output y;
};

// The warp's first row among its warpgroup's, the lane's i-th.
__device__ inline int row_of_warp() { return threadIdx.x % kWarpgroup / kWarpSize * 16; }
__device__ inline int row_of_lane(int i) {
  return row_of_warp() + threadIdx.x % kWarpSize / 4 + 8 * i;
}

// Scale and bias of a tile's sums and scales of a thread's two rows: on their way to registers
// while the tile is multiplied, then to the warpgroup's shared memory, where each thread finds
// those of its columns.
// kGated: a tile of kOut sums is kOut / 2 of the first half of the weights' outputs and those of
// the second.
template <MmaType type, int kOut, bool kGated>
class TileTerms {
 public:
  static constexpr bool kScaled = type != MmaType::bf16;

  // column: [kOut] of the warpgroup. column0: the tile's first output.
  __device__ TileTerms(const GemmOutput& to, float2* column, int row0, int column0)
      : column_(column), needed_(kScaled || to.y.bias) {
    if (!needed_) return;
    const int thread = threadIdx.x % kWarpgroup;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int sum = i * kWarpgroup + thread;
      const bool second = kGated && sum >= kOut / 2;
      const int output = column0 + (second ? sum - kOut / 2 : sum);
      mine_[i] = make_float2(1, 0);
      if (sum >= kOut || output >= to.out) continue;
      const int at = second ? to.out + output : output;
      if (kScaled) mine_[i].x = __ldg(to.column_scale + at);
      if (to.y.bias) mine_[i].y = __ldg(to.y.bias + at);
    }
    if (kScaled)
      for (int i = 0; i < 2; ++i)
        if (const int row = row0 + row_of_lane(i); row < to.rows) row_[i] = to.row_scale[row];
  }

  // Called by the whole warpgroup before finish().
  __device__ void share() const {
    const int thread = threadIdx.x % kWarpgroup;
    sync_warpgroup();  // all are done with those of the tile before
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      if (i * kWarpgroup + thread < kOut) column_[i * kWarpgroup + thread] = mine_[i];
    sync_warpgroup();
  }

  // Whether there is a scale or a bias.
  __device__ bool needed() const { return kScaled || needed_; }

  // What the lane's two sums of the i-th row in the tile's j-th block of eight columns stand for.
  template <bool kNeeded, class Sum>
  __device__ float2 finish(const Sum (&sums)[kOut / 2], int i, int j) const {
    const float2 value = make_float2(static_cast<float>(sums[4 * j + 2 * i]),
                                     static_cast<float>(sums[4 * j + 2 * i + 1]));
    if (!kNeeded) return make_float2(value.x + 0.0f, value.y + 0.0f);  // no negative zeros
    const float4 terms = *reinterpret_cast<const float4*>(column_ + 8 * j + 2 * (threadIdx.x % 4));
    return kScaled ? make_float2(value.x * (row_[i] * terms.x) + terms.y,
                                 value.y * (row_[i] * terms.z) + terms.w)
                   : make_float2(value.x + terms.y, value.y + terms.w);
  }

 private:
  static constexpr int kEach = (kOut + kWarpgroup - 1) / kWarpgroup;

  // A branch to one of two barriers with numbers would cost the loop its uniform descriptors.
  __device__ static void sync_warpgroup() {
    sync_threads<kWarpgroup>(1 + static_cast<int>(threadIdx.x) / kWarpgroup);
  }

  float2* column_;
  bool needed_;
  float2 mine_[kEach];
  float row_[2] = {1, 1};
};

// Writes a warpgroup's 64 rows of kColumns outputs of y in float32, in pieces of eight bytes.
// has_rows: as store_tile() has it.
// value(i, j): the lane's two of its i-th row, in the j-th block of eight columns.
template <int kColumns, class Value>
__device__ void store_float_pieces(const GemmOutput& to, bool has_rows, int row0, int column0,
                                   Value value) {
  const int t = threadIdx.x % 4, columns = to.out - column0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = row0 + row_of_lane(i);
    if (row >= to.rows || !has_rows) continue;
    float* const to_row = static_cast<float*>(to.y.data) + row * to.y.stride + column0 + 2 * t;
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j)
      if (8 * j < columns) *reinterpret_cast<float2*>(to_row + 8 * j) = value(i, j);
  }
}

// The same of any y, number by number.
template <int kColumns, class Value>
__device__ void store_numbers(const GemmOutput& to, bool has_rows, int row0, int column0,
                              Value value) {
  const Output& y = to.y;
#pragma unroll 1
  for (int j = 0; j < kColumns / 8; ++j)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = row0 + row_of_lane(i), column = column0 + 8 * j + 2 * (threadIdx.x % 4);
      const float2 pair = value(i, j);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        if (row >= to.rows || column + c >= to.out || !has_rows) continue;
        store_number(y, row, column + c, c == 0 ? pair.x : pair.y);
      }
    }
}

// The largest magnitudes that a lane sees of its two rows of a gated tile. Columns beyond y are
// zeros, since weights are.
template <bool kWanted>
class RowLargest {
 public:
  // pair: of the lane's i-th row.
  __device__ void see(float2 pair, int i) {
    largest_[i] = fmaxf(largest_[i], fmaxf(fabsf(pair.x), fabsf(pair.y)));
  }
  // Raises those of rows that are there. By all lanes of a warp.
  __device__ void raise(const GemmOutput& to, bool has_rows, int row0) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      // Of numbers that are rounded alike the largest rounded is the rounded largest.
      float most = __bfloat162float(__float2bfloat16_rn(largest_[i]));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
      const int row = row0 + row_of_lane(i);
      if (threadIdx.x % 4 == 0 && has_rows && row < to.rows)
        atomicMax(to.largest + row, __float_as_uint(most));
    }
  }

 private:
  float largest_[2] = {};
};
template <>
class RowLargest<false> {
 public:
  __device__ void see(float2, int) {}
  __device__ void raise(const GemmOutput&, bool, int) const {}
};

// Writes a warpgroup's 64 rows of a tile; store_whole(value) those of y in bf16 that has whole
// pieces. has_rows: whether the calling warp's rows are the tile's; a branch by it around all of
// this would cost the loop over tiles its uniform descriptors. How is chosen once, and what is
// hardly ever chosen is short code: with the choice made for every block of columns, what a tile
// executed lay scattered over more code than the instruction cache holds.
template <MmaType type, int kOut, bool kGated, class Sum, class StoreWhole>
__device__ void store_tile(const GemmOutput& to, const Sum (&sums)[kOut / 2],
                           const TileTerms<type, kOut, kGated>& terms, bool has_rows, int row0,
                           int column0, StoreWhole store_whole) {
  constexpr int kColumns = kGated ? kOut / 2 : kOut;
  RowLargest<kGated && type != MmaType::bf16> largest;
  const auto store = [&]<bool kNeeded>(std::bool_constant<kNeeded>) {
    const auto value = [&](const Sum(&of)[kOut / 2], int i, int j) {
      if constexpr (!kGated) {
        return terms.template finish<kNeeded>(of, i, j);
      } else {
        const auto rounded = [](float2 pair) { return unpack_bf16(pack_bf16(pair.x, pair.y)); };
        const float2 gate = rounded(terms.template finish<kNeeded>(of, i, j));
        const float2 up = rounded(terms.template finish<kNeeded>(of, i, j + kOut / 16));
        const float2 activated = make_float2(silu(gate.x) * up.x, silu(gate.y) * up.y);
        largest.see(activated, i);
        return activated;
      }
    };
    if (!has_whole_pieces(to.out, to.y)) {
      Sum kept[kOut / 2];  // in memory: registers have no indices
#pragma unroll
      for (int i = 0; i < kOut / 2; ++i) kept[i] = sums[i];
      store_numbers<kColumns>(to, has_rows, row0, column0,
                              [&](int i, int j) { return value(kept, i, j); });
    } else if (!kGated && to.y.f32) {
      store_float_pieces<kColumns>(to, has_rows, row0, column0,
                                   [&](int i, int j) { return value(sums, i, j); });
    } else {
      store_whole([&](int i, int j) { return value(sums, i, j); });
    }
  };
  if (!terms.needed()) return store(std::false_type());
  terms.share();
  store(std::true_type());
  if (to.largest) largest.raise(to, has_rows, row0);
}

}  // namespace narrow::ops::cuda
