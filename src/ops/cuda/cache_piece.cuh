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

// Copies pages of one key/value head to pieces, with kThreads threads, all of which call it.
template <int kThreads, int kHeadDim, class Kv>
class PageCopies {
 public:
  using Piece = CachePiece<kHeadDim, Kv>;

  // keys: the head's in the cache's first block; numbers from there to the next block's, and from
  // keys to values.
  __device__ PageCopies(const Kv* keys, int64_t to_next, int64_t to_values)
      : from_(keys + threadIdx.x * kNumbers), to_next_(to_next), to_values_(to_values) {
    const int unit = threadIdx.x % kUnits;
    key_ = token() * kUnits + Piece::key_unit(token(), unit);
    value_ = token() * kUnits + Piece::value_unit(token(), unit);
  }

  // Starts copying a page, of which the first `visible` tokens are the sequence's. What lies beyond
  // may be another's, or no number at all: zeros stand in for it.
  __device__ void start(Piece& to, int page, int32_t block, int visible) const {
    const Kv* keys = from_ + block * to_next_;
    const Kv* values = keys + to_values_;
#pragma unroll
    for (int first = 0; first < kCopies; first += kThreads) {
      if (kCopies < kThreads && static_cast<int>(threadIdx.x) >= kCopies) break;
      const bool there = first / kUnits + token() < visible;
      const int place = page * kCopies + first;
      copy_unit_async(&to.keys[0][0] + place + key_, keys + first * kNumbers, there);
      copy_unit_async(&to.values[0][0] + place + value_, values + first * kNumbers, there);
    }
  }

 private:
  static constexpr int kUnits = Piece::kUnits, kNumbers = 16 / sizeof(Kv);
  static constexpr int kCopies = kPage * kUnits;  // of keys
  // So the tokens of a thread's copies have their units exchanged alike.
  static_assert(kThreads / kUnits % 8 == 0 && (kCopies < kThreads || kCopies % kThreads == 0));

  __device__ static int token() { return threadIdx.x / kUnits; }

  const Kv* from_;
  int64_t to_next_, to_values_;
  int key_, value_;  // places of the first copies in a page
};

}  // namespace narrow::ops::cuda
