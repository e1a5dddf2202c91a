// The inputs of the products of the kernel of whole layers: each block makes the whole row for
// itself.
//
// Code that every layer runs once is as short as can be, its loops not unrolled: what does not fit
// the instruction cache is fetched anew, at the price of a memory access for every few
// instructions.
#pragma once

#include "ops/cuda/numbers.cuh"
#include "ops/cuda/row_exchange.cuh"
#include "ops/cuda/row_shared.cuh"
#include "ops/cuda/rows.cuh"

namespace narrow::ops::cuda {

inline constexpr int kNormThreads = 512;  // of norm.cu, at most
inline constexpr int kRowLoads = 4;       // of a thread, under way at a time

// Puts eight numbers, from c on, where they belong in `staged`, or in the x of 4-bit weights.
// There a warp's threads write words of eight blocks at a time: to all banks, sixteen bytes of
// each.
static_assert([] {
  unsigned banks = 0;
  for (int block = 0; block < 8; ++block) banks |= 1u << int4_place(block) / 16 % 8;
  return banks == 0xff;
}());
template <class Format>
__device__ inline void put_piece(const uint4& piece, int c, __nv_bfloat16* staged) {
  if constexpr (kIsInt4<Format>) {
    auto* const at = reinterpret_cast<uint32_t*>(reinterpret_cast<uint8_t*>(staged) +
                                                 int4_place(c / 32) + c / 8 % 4 * 4);
    at[0] = piece.x, at[4] = piece.y, at[8] = piece.z, at[12] = piece.w;
  } else {
    *reinterpret_cast<uint4*>(staged + c) = piece;
  }
}

// A row of `cols` numbers, which lies in `staged`, becomes a product's input: itself, where that is
// its place, or codes; zeros behind it. largest: of the thread's numbers.
template <Codes codes>
__device__ inline void finish_row(__nv_bfloat162 largest, int cols, const __nv_bfloat16* staged,
                                  RowShared& shared, uint8_t* x, int padded_bytes) {
  const int thread = this_thread(), lane = thread % kWarpSize;
  constexpr int kBytes = codes == Codes::none ? 2 : 1;
  if constexpr (codes != Codes::none) {
    using Code = std::conditional_t<codes == Codes::int8, Int8Code, Fp8Code>;
    const float of_warp = warp_max(fmaxf(__low2float(largest), __high2float(largest)));
    if (lane == 0) shared.largest[thread / kWarpSize] = of_warp;
    sync_consumers();
    const float scale = scale_of(
        warp_max(lane < kRowConsumers / kWarpSize ? shared.largest[lane] : 0), Code::kGrid);
    const Divisor divisor(scale);
#pragma unroll 1
    for (int c = 8 * thread; c < cols; c += 8 * kRowConsumers) {
      float value[8];
      Packed<8>::load(staged + c).unpack(value);
      store_codes<Code>(value, divisor, x + c);
    }
    if (thread == 0) shared.row_scale = scale;
  }
#pragma unroll 1
  for (int c = cols * kBytes + 8 * thread; c < padded_bytes; c += 8 * kRowConsumers)
    *reinterpret_cast<uint2*>(x + c) = uint2{};
  if (codes == Codes::fp8) publish_to_async();  // the tensor cores read it themselves
  sync_consumers();
}

// from: [cols], which the blocks are still writing.
template <class Format>
__device__ inline void take_row(const __nv_bfloat16* from, int cols, __nv_bfloat16* staged,
                                RowShared& shared, uint8_t* x, int padded_bytes) {
  constexpr Codes codes = Format::kCodes;
  __nv_bfloat162 largest = __float2bfloat162_rn(0);
  sync_consumers();  // all are done with what lies in x and `staged`
#pragma unroll 1
  for (int first = 8 * this_thread(); first < cols; first += kRowLoads * 8 * kRowConsumers) {
    uint4 piece[kRowLoads];
#pragma unroll
    for (int i = 0; i < kRowLoads; ++i) {
      const int c = first + i * 8 * kRowConsumers;
      piece[i] = c < cols ? ask_piece(from + c) : uint4{};
    }
    bool whole;
    do {
      whole = true;
#pragma unroll
      for (int i = 0; i < kRowLoads; ++i)
        if (!is_there(piece[i])) {
          whole = false;
          piece[i] = ask_piece(from + first + i * 8 * kRowConsumers);
        }
    } while (!whole);
#pragma unroll
    for (int i = 0; i < kRowLoads; ++i) {
      const int c = first + i * 8 * kRowConsumers;
      if (c < cols) put_piece<Format>(piece[i], c, staged);
      if (codes != Codes::none) largest = Packed<8>{piece[i]}.largest(largest);
    }
  }
  finish_row<codes>(largest, cols, staged, shared, x, padded_bytes);
}

// residual += added (null: nothing), which the blocks are still writing; its norm becomes a
// product's input. The sum of squares is that of a block of norm.cu's threads.
template <class Format>
__device__ inline void normalize_row(const RowLayers& work, const __nv_bfloat16* added,
                                     const float* gamma, __nv_bfloat16* residual,
                                     __nv_bfloat16* staged, RowShared& shared, uint8_t* x,
                                     int padded_bytes) {
  constexpr Codes codes = Format::kCodes;
  const int thread = this_thread(), lane = thread % kWarpSize;
  const int cols = work.hidden, vectors = cols / 8;
  const int slots = vectors <= kNormThreads ? 1 : 2;
  const int of_slot = slots == 1 ? vectors : (vectors + 1) / 2;
  const int threads = (of_slot + kWarpSize - 1) / kWarpSize * kWarpSize;
  const int begin = thread < threads ? 8 * thread : cols, stride = 8 * threads;
  const auto load_weights = [&](int c, float4(&weight)[2]) {
    weight[0] = __ldg(reinterpret_cast<const float4*>(gamma + c));
    weight[1] = __ldg(reinterpret_cast<const float4*>(gamma + c) + 1);
  };
  float4 weight[2] = {};
  if (begin < cols) load_weights(begin, weight);
  float squares = 0, value[8];
#pragma unroll 1
  for (int c = begin; c < cols; c += stride) {
    Packed<8> piece = Packed<8>::load(residual + c);
    piece.unpack(value);
    if (added) {
      uint4 words;
      do words = ask_piece(added + c);
      while (!is_there(words));
      float more[8];
      Packed<8>{words}.unpack(more);
#pragma unroll
      for (int i = 0; i < 8; ++i) value[i] += more[i];
      piece = Packed<8>::round(value);
      piece.store(residual + c);
      piece.unpack(value);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) squares = fmaf(value[i], value[i], squares);
  }
  squares = warp_sum(squares);
  if (lane == 0) shared.squares[thread / kWarpSize] = squares;
  sync_consumers();
  squares = warp_sum(lane < threads / kWarpSize ? shared.squares[lane] : 0);
  const float factor = norm_factor(squares, cols, work.epsilon);
  __nv_bfloat162 largest = __float2bfloat162_rn(0);
#pragma unroll 1
  for (int c = begin; c < cols; c += stride) {
    const float weights[8] = {weight[0].x, weight[0].y, weight[0].z, weight[0].w,
                              weight[1].x, weight[1].y, weight[1].z, weight[1].w};
    if (c + stride < cols) load_weights(c + stride, weight);
    Packed<8>::load(residual + c).unpack(value);
#pragma unroll
    for (int i = 0; i < 8; ++i) value[i] = value[i] * factor * weights[i];
    const Packed<8> piece = Packed<8>::round(value);
    put_piece<Format>(piece.words, c, staged);
    if (codes != Codes::none) largest = piece.largest(largest);
  }
  finish_row<codes>(largest, cols, staged, shared, x, padded_bytes);
}

}  // namespace narrow::ops::cuda
