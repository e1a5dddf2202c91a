// How tiles of gemm.cuh get to memory: by the copy engine, from places in shared memory that each
// warp has to itself. A warpgroup goes on with its next tile when its sums are rounded and put
// there, not when they are written.
#pragma once

#include "ops/cuda/device.cuh"
#include "ops/cuda/hopper.cuh"

namespace narrow::ops::cuda {

inline constexpr int kStagedRows = 16;        // of a warp
inline constexpr int kWarpStaging = 2 << 10;  // bytes

// Where tiles are staged, behind a ring of so many bytes.
__device__ inline const uint8_t* staging_behind(const uint8_t* ring, int ring_bytes) {
  return ring + ((ring_bytes + 1023) & -1024);
}

// So many outputs of a warp's rows wait at a time, in two places or one. Rows of 32 or 16 are
// swizzled (rows_map()); others, of an odd number of pieces of sixteen bytes, lie in all banks as
// they are.
template <int kColumns>
inline constexpr int kStagedColumns = kColumns % 32 == 0   ? 32
                                      : kColumns % 16 == 0 ? 16
                                                           : kColumns;

// A warp's rows of a tile of kColumns outputs, from (row, column) on. map: rows_map() of y in boxes
// of kStagedColumns by kStagedRows. adds: as Output has it. has_rows: as store_tile() has it.
// memory: of the block's warps that multiply, kWarpStaging each, aligned to 1024 bytes. value(i,
// j): the lane's two of its i-th row, in the j-th block of eight columns.
template <int kColumns, class Value>
__device__ void store_staged(const CUtensorMap& map, bool adds, bool has_rows,
                             const uint8_t* memory, int row, int column, Value value) {
  constexpr int kPiece = kStagedColumns<kColumns>, kRowBytes = 2 * kPiece;
  constexpr int kPlaces = kPiece <= 32 ? 2 : 1;
  constexpr uint32_t kPlaceBytes = kWarpStaging / kPlaces;
  static_assert(kStagedRows * kRowBytes <= static_cast<int>(kPlaceBytes) && kPiece % 8 == 0);
  const int lane = threadIdx.x % kWarpSize;
  const uint32_t of_warp = shared_address(memory) + threadIdx.x / kWarpSize * kWarpStaging;
  // Lane 8 m + r says where row r of matrix m goes: of rows from 8 on if m is odd, of columns
  // from 8 on if m > 1. A swizzle of 64 bytes exchanges pieces of sixteen by bits 7 and 8 of
  // where they lie, one of 32 bytes by bit 7.
  const int matrix_row = lane / 8 % 2 * 8 + lane % 8, matrix_piece = lane / 16;
  const int swizzle = kPiece == 32 ? matrix_row / 2 % 4 : kPiece == 16 ? matrix_row / 4 % 2 : 0;
  const auto offset = static_cast<uint32_t>(matrix_row * kRowBytes + (matrix_piece ^ swizzle) * 16);
  const auto packed = [&](int i, int j) {
    const float2 pair = value(i, j);
    return pack_bf16(pair.x, pair.y);
  };
#pragma unroll
  for (int first = 0; first < kColumns; first += kPiece) {
    // At first for all of the tile before, of which perhaps the last piece lay here.
    if (lane == 0 && first == 0) wait_for_reads<0>();
    if (lane == 0 && first > 0) wait_for_reads<kPlaces - 1>();
    __syncwarp();
    const uint32_t place = of_warp + first / kPiece % kPlaces * kPlaceBytes;
#pragma unroll
    for (int c = 0; c < kPiece; c += 16) {
      const int j = (first + c) / 8;
      const uint32_t to = place + (kPiece <= 32 ? offset ^ static_cast<uint32_t>(2 * c)
                                                : offset + static_cast<uint32_t>(2 * c));
      if (c + 16 <= kPiece) {
        store_matrices(to, {packed(0, j), packed(1, j), packed(0, j + 1), packed(1, j + 1)});
      } else {
        store_matrices(to, {packed(0, j), packed(1, j)});
      }
    }
    publish_to_async();
    __syncwarp();
    if (lane == 0 && has_rows) {
      copy_tile_out(&map, adds, column + first, row, place);
      close_copies();
    }
  }
}

// Asks for what a warp's rows of a tile will be added to. Since it was read, more has gone through
// the second-level cache than that holds.
template <int kColumns>
__device__ void prefetch_staged(const CUtensorMap& map, int row, int column) {
  constexpr int kPiece = kStagedColumns<kColumns>;
  const int lane = threadIdx.x % kWarpSize;
  if (lane < kColumns / kPiece) prefetch_tile(&map, column + lane * kPiece, row);
}

// Before a warp ends that has stored tiles so.
__device__ inline void finish_staged() {
  if (threadIdx.x % kWarpSize == 0) wait_for_copies_out();
}

}  // namespace narrow::ops::cuda
