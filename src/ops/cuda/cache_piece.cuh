// A piece of the cache in shared memory, as attention with mma reads it.
#pragma once

#include "ops/cuda/attention.cuh"
#include "ops/cuda/kv_cache.cuh"
#include "ops/cuda/portable.cuh"

namespace narrow::ops::cuda {

// Sixteen tokens by sixteen dims of values as two B operands: x, y for the first eight dims, z, w
// for the others.
__device__ inline uint4 load_transposed(const void* unit) {
  uint4 result;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(result.x), "=r"(result.y), "=r"(result.z), "=r"(result.w)
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(unit)))
               : "memory");
  return result;
}

// Keys and values of a piece as rows of 16-byte units. A unit's place is exchanged within its row
// so that the reads below touch each bank once.
template <int kHeadDim, class Kv>
struct CachePiece;

template <int kHeadDim>
struct CachePiece<kHeadDim, __nv_bfloat16> {
  static constexpr int kUnits = kHeadDim / 8;
  uint4 keys[kDecodeChunk][kUnits], values[kDecodeChunk][kUnits];

  __device__ static int key_unit(int token, int unit) { return unit ^ (token & 3) << 1; }
  __device__ static int value_unit(int token, int unit) { return unit ^ (token & 7); }

  // Dims 16 s + 4t … of a token's key.
  __device__ uint2 key(int token, int s, int t) const {
    const uint4& unit = keys[token][key_unit(token, 2 * s + t / 2)];
    return reinterpret_cast<const uint2*>(&unit)[t % 2];
  }
  // A quarter of the dims of a page's values as B operands.
  __device__ void load_values(int page, int quarter, int lane, uint2 (&to)[kHeadDim / 32]) const {
    const int token = page * kPage + lane % 16;
#pragma unroll
    for (int d = 0; d < kHeadDim / 64; ++d) {
      const int unit = 2 * (quarter * (kHeadDim / 64) + d) + lane / 16;
      const uint4 v = load_transposed(&values[token][value_unit(token, unit)]);
      to[2 * d] = make_uint2(v.x, v.y);
      to[2 * d + 1] = make_uint2(v.z, v.w);
    }
  }
  // Of a column of the i-th operand.
  __device__ static int dim(int quarter, int i, int column) {
    return quarter * (kHeadDim / 4) + 8 * i + column;
  }
};

template <int kHeadDim>
struct CachePiece<kHeadDim, e4m3_t> {
  static constexpr int kUnits = kHeadDim / 16, kDims = kHeadDim / 32;
  uint4 keys[kDecodeChunk][kUnits], values[kDecodeChunk][kUnits];

  __device__ static int key_unit(int token, int unit) {
    return unit ^ (kHeadDim == 128 ? token & 7 : token >> 1 & 3);
  }
  __device__ static int value_unit(int token, int unit) {
    return unit ^ (token >> 1 & 3) * (kHeadDim / 64);
  }

  __device__ uint2 key(int token, int s, int t) const {
    const uint32_t codes = reinterpret_cast<const uint32_t*>(&keys[token][key_unit(token, s)])[t];
    return make_uint2(widen_pair(codes), widen_pair(codes >> 16));
  }
  __device__ void load_values(int page, int quarter, int lane, uint2 (&to)[kDims]) const {
    const int g = lane / 4, t = lane % 4;
    const int byte = quarter * (kHeadDim / 4) + kDims * g;
    Numbers<e4m3_t, kDims> codes[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = page * kPage + 2 * t + (i & 1) + 8 * (i >> 1);
      codes[i] = *reinterpret_cast<const Numbers<e4m3_t, kDims>*>(
          reinterpret_cast<const e4m3_t*>(&values[token][value_unit(token, byte / 16)]) +
          byte % 16);
    }
#pragma unroll
    for (int d = 0; d < kDims / 2; ++d) {
      uint32_t dims[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) dims[i] = codes[i].widened(d);
#pragma unroll
      for (int j = 0; j < 2; ++j)
        to[2 * d + j] = make_uint2(across(dims[0], dims[1], j), across(dims[2], dims[3], j));
    }
  }
  __device__ static int dim(int quarter, int i, int column) {
    return quarter * (kHeadDim / 4) + kDims * column + i;
  }
};

// Starts copying a page, of which the first `visible` tokens are the sequence's. What lies beyond
// may be another's, or no number at all: zeros stand in for it. Called by all threads.
template <int kHeadDim, class Kv>
__device__ void copy_page(CachePiece<kHeadDim, Kv>& to, int page, const Kv* keys, const Kv* values,
                          int visible) {
  constexpr int kUnits = CachePiece<kHeadDim, Kv>::kUnits, kNumbers = 16 / sizeof(Kv);
  for (int i = threadIdx.x; i < kPage * kUnits; i += blockDim.x) {
    const int token = page * kPage + i / kUnits, unit = i % kUnits;
    const bool there = i / kUnits < visible;
    copy_unit_async(&to.keys[token][to.key_unit(token, unit)], keys + i * kNumbers, there);
    copy_unit_async(&to.values[token][to.value_unit(token, unit)], values + i * kNumbers, there);
  }
}

}  // namespace narrow::ops::cuda
