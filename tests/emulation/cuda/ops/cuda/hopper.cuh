// In place of src/ops/cuda/hopper.cuh on the host: those of its functions that products of
// gemm.cuh, attention of prompts, rows of clusters and the kernel of whole layers use.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "emulation/tiles.h"
#include "ops/cuda/device.cuh"
#include "ops/cuda/mma_type.h"

namespace narrow::ops::cuda {

inline constexpr int kWarpgroup = 128;
inline constexpr int kAtomBytes = 128;

inline int warpgroup() { return threadIdx.x / kWarpgroup; }
inline uint32_t to_first_tile(const void* memory) {
  return (1024 - shared_address(memory) % 1024) % 1024;
}

inline void init_barrier(uint64_t* barrier, uint32_t arrivals) {
  emulation::init_barrier(shared_address(barrier), arrivals);
}
inline void publish_barriers() {}
inline void arrive_at(uint32_t barrier) { emulation::arrive(barrier); }
inline void arrive(uint64_t* barrier) { arrive_at(shared_address(barrier)); }
inline void arrive_expecting(uint64_t* barrier, uint32_t bytes) {
  emulation::arrive_expecting(shared_address(barrier), bytes);
}
inline void arrive_after_copies(uint64_t* barrier) {
  emulation::arrive_after_copies(shared_address(barrier));
}
inline void wait_at(uint32_t barrier, uint32_t parity) {
  emulation::wait_at_barrier(barrier, parity);
}
inline void wait(const uint64_t* barrier, uint32_t parity) {
  wait_at(shared_address(barrier), parity);
}

inline void copy_tile(void* to, const CUtensorMap* map, int inner, int row, int outer,
                      uint64_t* barrier) {
  const int at[] = {inner, row, outer};
  emulation::copy_box(shared_address(to), *map, at, shared_address(barrier));
}
inline void copy_tile_of_halves(void* to, const CUtensorMap* map, int inner, int row, int outer,
                                uint64_t* barrier) {
  const int at[] = {inner, row, 0, outer};
  emulation::copy_box(shared_address(to), *map, at, shared_address(barrier));
}
inline void copy_box(void* to, const CUtensorMap* map, int c0, int c1, int c2, int c3, int c4,
                     uint64_t* barrier) {
  const int at[] = {c0, c1, c2, c3, c4};
  emulation::copy_box(shared_address(to), *map, at, shared_address(barrier));
}
inline void copy_bytes(void* to, const void* from, uint32_t bytes, uint64_t* barrier) {
  constexpr int kUnit = 16, kAt[] = {0};
  const auto units = static_cast<int>(bytes) / kUnit;
  // The copy engine writes none of it.
  auto* const data = static_cast<std::byte*>(const_cast<void*>(from));
  emulation::copy_box(shared_address(to), {data, kUnit, 1, {units}, {kUnit}, {units}, kUnit}, kAt,
                      shared_address(barrier));
}
inline void copy_tile_out(const CUtensorMap* map, bool adds, int column, int row, uint32_t from) {
  const int at[] = {column, row};
  emulation::copy_box_out(*map, adds, at, from);
}
inline void close_copies() { emulation::close_copies_out(); }
template <int kPending>
void wait_for_reads() {
  emulation::wait_for_copies_out(kPending);
}
inline void wait_for_copies_out() { emulation::wait_for_copies_out(0); }
inline void prefetch_bytes(const void*, uint32_t) {}
inline void prefetch_tile(const CUtensorMap*, int, int) {}
inline void prefetch_map(const CUtensorMap*) {}

template <int>
void give_up_registers() {}
template <int>
void take_registers() {}

inline void wgmma_fence() {}
inline void wgmma_commit() { emulation::commit_products(); }
template <int kPending>
void wgmma_wait() {
  emulation::wait_for_products(kPending);
}
template <class Sum>
void keep(Sum&) {}

inline uint32_t tile_descriptor_low(const void* tile) { return shared_address(tile) / 16; }
inline uint64_t descriptor_from_low(uint32_t low) { return low; }
inline uint32_t row_descriptor_low(const void* row) { return shared_address(row) / 16; }
inline uint64_t transposed_tile(const void* tile, uint32_t column_stride) {
  return uint64_t{column_stride} << 32 | tile_descriptor_low(tile);
}

inline void publish_to_async() {}
// As a lane of a warp has words of matrices of eight rows, and places of rows.
template <int kMatrices>
void store_matrices(uint32_t row, const uint32_t (&words)[kMatrices]) {
  const int lane = threadIdx.x % kWarpSize, g = lane / 4, t = lane % 4;
  for (int matrix = 0; matrix < kMatrices; ++matrix) {
    const uint32_t to = emulation::exchange(row, 8 * matrix + g) + 4 * static_cast<uint32_t>(t);
    std::memcpy(emulation::block_memory() + to, &words[matrix], sizeof words[matrix]);
  }
}

// As a lane has words of matrices, and places of columns.
inline void store_matrices_transposed(void* column, const uint32_t (&words)[4]) {
  const int lane = threadIdx.x % kWarpSize, g = lane / 4, t = lane % 4;
  for (int matrix = 0; matrix < 4; ++matrix)
    for (int i = 0; i < 2; ++i) {
      const uint32_t to = emulation::exchange(shared_address(column), 8 * matrix + 2 * t + i) +
                          2 * static_cast<uint32_t>(g);
      const auto number = static_cast<uint16_t>(words[matrix] >> 16 * i);
      std::memcpy(emulation::block_memory() + to, &number, sizeof number);
    }
}

inline void cluster_sync() { emulation::sync_cluster(); }
// The block's rank stands above the place.
inline uint32_t address_in(const void* local, int rank) {
  return emulation::place_of(local) | static_cast<uint32_t>(rank) << emulation::kPlaceBits;
}
template <class T>
void store_in_cluster(uint32_t address, T value) {
  emulation::store_in_block(static_cast<int>(address >> emulation::kPlaceBits),
                            address & ((1u << emulation::kPlaceBits) - 1), &value, sizeof value);
}

template <MmaType type, int kColumns>
void wgmma(typename MmaTraits<type>::Sum (&d)[kColumns / 2], uint64_t a, uint64_t b, int keep) {
  constexpr emulation::Factor kFactor = type == MmaType::bf16   ? emulation::Factor::bf16
                                        : type == MmaType::e4m3 ? emulation::Factor::e4m3
                                                                : emulation::Factor::int8;
  emulation::multiply(kFactor, kColumns, d, static_cast<uint32_t>(a) * 16,
                      static_cast<uint32_t>(b) * 16, keep != 0);
}

template <int kColumns>
void wgmma_registers(float (&d)[kColumns / 2], const uint32_t (&a)[4], uint64_t b, int keep) {
  emulation::multiply_registers(kColumns, d, a, static_cast<uint32_t>(b) * 16, keep != 0);
}

inline void wgmma_eight_e4m3(float (&d)[4], const uint4& a, uint64_t b) {
  emulation::multiply_row_e4m3(d, {a.x, a.y, a.z, a.w}, static_cast<uint32_t>(b) * 16);
}

template <int kColumns>
void wgmma_transposed(float (&d)[kColumns / 2], const uint32_t (&a)[4], uint64_t b, int keep) {
  emulation::multiply_transposed(kColumns, d, a, static_cast<uint32_t>(b) * 16,
                                 static_cast<uint32_t>(b >> 32), keep != 0);
}

}  // namespace narrow::ops::cuda
