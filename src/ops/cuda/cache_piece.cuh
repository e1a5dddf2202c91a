// A piece of the cache in shared memory, as attention with mma reads it.
#pragma once

#include "ops/cuda/async_copies.cuh"
#include "ops/cuda/attention.cuh"
#include "ops/cuda/kv_cache.cuh"

namespace narrow::ops::cuda {

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
  // A quarter of the dims of a page's values as B operands, two for sixteen dims.
  __device__ void load_values(int page, int quarter, int lane, uint2 (&to)[kHeadDim / 32]) const {
    const int token = page * kPage + lane % 16;
#pragma unroll
    for (int d = 0; d < kHeadDim / 64; ++d) {
      const int unit = 2 * (quarter * (kHeadDim / 64) + d) + lane / 16;
      const uint4 v = load_transposed(shared_address(&values[token][value_unit(token, unit)]));
      to[2 * d] = make_uint2(v.x, v.y);
      to[2 * d + 1] = make_uint2(v.z, v.w);
    }
  }
  // Of a column of the i-th operand.
  __device__ static int dim(int quarter, int i, int column) {
    return quarter * (kHeadDim / 4) + 8 * i + column;
  }

  // What a lane of a warp reads of every piece: the keys of page `warp`, and the values of that
  // quarter of the dims. Its places are found once: tokens that are a multiple of eight apart have
  // their units exchanged alike. keys, values: shared addresses of either half of a piece.
  class Lane {
   public:
    __device__ Lane(int warp, int lane) {
      const int g = lane / 4, t = lane % 4;
#pragma unroll
      for (int s = 0; s < 4; ++s)
        key_[s] = (warp * kPage + g) * kRowBytes + key_unit(g, 2 * s + t / 2) * 16 + t % 2 * 8;
#pragma unroll
      for (int d = 0; d < kHeadDim / 64; ++d)
        value_[d] = lane % 16 * kRowBytes +
                    value_unit(lane, 2 * (warp * (kHeadDim / 64) + d) + lane / 16) * 16;
    }
    // Dims 16 s + 4t … of token 8 half + g.
    __device__ uint2 key(uint32_t keys, int half, int s) const {
      return load_shared<uint2>(keys + key_[s % 4] + s / 4 * 128 + half * 8 * kRowBytes);
    }
    __device__ void load_values(uint32_t values, int page, uint2 (&to)[kHeadDim / 32]) const {
#pragma unroll
      for (int d = 0; d < kHeadDim / 64; ++d) {
        const uint4 v = load_transposed(values + value_[d] + page * kPage * kRowBytes);
        to[2 * d] = make_uint2(v.x, v.y);
        to[2 * d + 1] = make_uint2(v.z, v.w);
      }
    }

   private:
    static constexpr int kRowBytes = kUnits * 16;
    uint32_t key_[4], value_[kHeadDim / 64];
  };
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
    widen_values(codes, to);
  }
  __device__ static int dim(int quarter, int i, int column) {
    return quarter * (kHeadDim / 4) + kDims * column + i;
  }

  // As that of bf16.
  class Lane {
   public:
    __device__ Lane(int warp, int lane) {
      const int g = lane / 4, t = lane % 4, byte = warp * (kHeadDim / 4) + kDims * g;
#pragma unroll
      for (int s = 0; s < kHeadDim / 16; ++s)
        key_[s] = (warp * kPage + g) * kRowBytes + key_unit(g, s) * 16 + t * 4;
      value_ = 2 * t * kRowBytes + value_unit(2 * t, byte / 16) * 16 + byte % 16;
    }
    __device__ uint2 key(uint32_t keys, int half, int s) const {
      const auto codes = load_shared<uint32_t>(keys + key_[s] + half * 8 * kRowBytes);
      return make_uint2(widen_pair(codes), widen_pair(codes >> 16));
    }
    __device__ void load_values(uint32_t values, int page, uint2 (&to)[kDims]) const {
      Numbers<e4m3_t, kDims> codes[4];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        codes[i] = load_shared<Numbers<e4m3_t, kDims>>(
            values + value_ + (page * kPage + (i & 1) + 8 * (i >> 1)) * kRowBytes);
      widen_values(codes, to);
    }

   private:
    static constexpr int kRowBytes = kUnits * 16;
    uint32_t key_[kHeadDim / 16], value_;
  };

 private:
  // codes: of tokens 2t, 2t + 1, 2t + 8, 2t + 9.
  __device__ static void widen_values(const Numbers<e4m3_t, kDims> (&codes)[4],
                                      uint2 (&to)[kDims]) {
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
};

// Copies pages of a key/value head to pieces, with kThreads threads, all of which call it.
template <int kThreads, int kHeadDim, class Kv>
class PageCopies {
 public:
  using Piece = CachePiece<kHeadDim, Kv>;

  // cache: its first block.
  __device__ PageCopies(const void* cache, int kv_heads, int kv_head)
      : half_block_(static_cast<uint32_t>(kv_heads * kPageBytes)),
        keys_(static_cast<const uint8_t*>(cache) + kv_head * kPageBytes +
              threadIdx.x * kUnitBytes) {
    const int unit = threadIdx.x % kUnits;
    key_ = (token() * kUnits + Piece::key_unit(token(), unit)) * kUnitBytes;
    value_ = (token() * kUnits + Piece::value_unit(token(), unit)) * kUnitBytes;
  }

  // Starts copying the keys (or values) of a page to their place in that half of a piece, whose
  // shared address is given. The first `visible` tokens are the sequence's. What lies beyond may be
  // another's, or no number at all: zeros stand in for it. wanted: else nothing happens.
  __device__ void start(bool values, uint32_t to, int page, int32_t block, int visible,
                        bool wanted = true) const {
    const uint8_t* const from = keys_ + uint64_t{static_cast<uint32_t>(block)} * (2 * half_block_) +
                                (values ? half_block_ : 0);
    to += values ? value_ : key_;
    const int there = visible - token();
#pragma unroll
    for (int first = 0; first < kCopies; first += kThreads) {
      if (kCopies < kThreads && static_cast<int>(threadIdx.x) >= kCopies) break;
      copy_unit_async(to + (page * kCopies + first) * kUnitBytes, from + first * kUnitBytes,
                      first / kUnits < there, wanted);
    }
  }

 private:
  static constexpr int kUnits = Piece::kUnits, kPageBytes = kPage * kHeadDim * sizeof(Kv);
  static constexpr int kCopies = kPage * kUnits;  // of keys
  // So the tokens of a thread's copies have their units exchanged alike.
  static_assert(kThreads / kUnits % 8 == 0 && (kCopies < kThreads || kCopies % kThreads == 0));

  __device__ static int token() { return threadIdx.x / kUnits; }

  uint32_t half_block_;   // bytes from keys to values
  const uint8_t* keys_;   // of the head in the first block, the thread's first
  uint32_t key_, value_;  // places of the first copies in either half, in bytes
};

}  // namespace narrow::ops::cuda
