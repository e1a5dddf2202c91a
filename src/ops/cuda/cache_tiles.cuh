// A piece of the cache in shared memory, as wgmma reads it.
#pragma once

#include "ops/cuda/attention.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/kv_cache.cuh"

namespace narrow::ops::cuda {

// Tiles of 64 dims in the 128-byte swizzle, one behind the other.
template <int kHeadDim>
struct PieceTiles {
  static constexpr int kAtoms = kHeadDim / 64;
  uint8_t keys[kAtoms][kDecodeChunk * kAtomBytes], values[kAtoms][kDecodeChunk * kAtomBytes];
};

// A row and a unit of 16 bytes in a tile.
__device__ inline uint4* unit_of(uint8_t* tile, int row, int unit) {
  return reinterpret_cast<uint4*>(tile + row * kAtomBytes + (unit ^ (row % 8)) * 16);
}

// The keys and values of a page in e4m3, as one warp holds them: units of sixteen codes.
template <int kHeadDim>
struct PageCodes {
  static constexpr int kUnits = kPage * kHeadDim / 16 / kWarpSize;  // of a lane
  uint4 keys[kUnits], values[kUnits];

  __device__ void load(const e4m3_t* page_keys, int64_t to_values, int lane) {
#pragma unroll
    for (int i = 0; i < kUnits; ++i) {
      const e4m3_t* unit = page_keys + (i * kWarpSize + lane) * 16;
      keys[i] = load_streaming(unit);
      values[i] = load_streaming(unit + to_values);
    }
  }
  __device__ static void store(const uint4& codes, uint8_t (*tiles)[kDecodeChunk * kAtomBytes],
                               int token, int unit) {
    const uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t a = words[2 * half], b = words[2 * half + 1];
      *unit_of(tiles[unit / 4], token, 2 * (unit % 4) + half) =
          make_uint4(widen_pair(a), widen_pair(a >> 16), widen_pair(b), widen_pair(b >> 16));
    }
  }
  __device__ void store(PieceTiles<kHeadDim>& piece, int page, int lane) const {
#pragma unroll
    for (int i = 0; i < kUnits; ++i) {
      const int at = i * kWarpSize + lane;
      const int token = page * kPage + at / (kHeadDim / 16), unit = at % (kHeadDim / 16);
      store(keys[i], piece.keys, token, unit);
      store(values[i], piece.values, token, unit);
    }
  }
};

}  // namespace narrow::ops::cuda
