// Hopper's asynchronous parts as functions: barriers in shared memory, the copy engine (TMA),
// matrix products of a warpgroup (wgmma). PTX ISA 8.0; tiles lie in shared memory as rows of 128
// bytes in the 128-byte swizzle that a tensor map asks for, eight rows to an atom of 1024 bytes.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "ops/cuda/device.cuh"
#include "ops/cuda/mma_type.h"

namespace narrow::ops::cuda {

inline constexpr int kWarpgroup = 128;  // threads
inline constexpr int kAtomBytes = 128;  // of a row in shared memory

// The thread's warpgroup in the block. The compiler learns from the exchange that it is the same in
// all lanes: descriptors of tiles are then computed once for a warp. Called by whole warps.
__device__ inline int warpgroup() {
  return __shfl_sync(0xffffffff, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
}

// Bytes from a block's memory to the first multiple of 1024, where a swizzled tile may lie.
__device__ inline uint32_t to_first_tile(const void* memory) {
  return (1024 - shared_address(memory) % 1024) % 1024;
}

// --- Barriers -----------------------------------------------------------------------------------

__device__ inline void init_barrier(uint64_t* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(arrivals)
               : "memory");
}

// Makes initialized barriers known to the copy engine.
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// At the barrier at a shared address.
__device__ inline void arrive_at(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ inline void arrive(uint64_t* barrier) { arrive_at(shared_address(barrier)); }

// Arrives and announces bytes that the copy engine will bring.
__device__ inline void arrive_expecting(uint64_t* barrier, uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}

// Arrives, as one of those that the barrier was made for, when all copies of single units
// (portable.cuh) that the thread has asked for so far are there.
__device__ inline void arrive_after_copies(uint64_t* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(barrier))
               : "memory");
}

// Waits until the phase of this parity is complete of the barrier at a shared address.
__device__ inline void wait_at(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
__device__ inline void wait(const uint64_t* barrier, uint32_t parity) {
  wait_at(shared_address(barrier), parity);
}

// --- Clusters -----------------------------------------------------------------------------------

// Kernels with clusters are compiled for older devices as well, where has_clusters() (capability.h)
// keeps them from being launched.
#if __CUDA_ARCH__ >= 900

// Of all threads of the cluster's blocks.
__device__ inline void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ inline void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ inline void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

// The address that the block `rank` of the cluster has `local` at.
__device__ inline uint32_t address_in(const void* local, int rank) {
  uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;"
      : "=r"(address)
      : "r"(shared_address(local)), "r"(rank));
  return address;
}

__device__ inline void store_in_cluster(uint32_t address, float value) {
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory");
}
__device__ inline void store_in_cluster(uint32_t address, float4 value) {
  asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address), "f"(value.x),
               "f"(value.y), "f"(value.z), "f"(value.w)
               : "memory");
}
__device__ inline void store_in_cluster(uint32_t address, int4 value) {
  asm volatile("st.shared::cluster.v4.s32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(value.x),
               "r"(value.y), "r"(value.z), "r"(value.w)
               : "memory");
}

#else

__device__ inline void cluster_arrive() { __trap(); }
__device__ inline void cluster_wait() { __trap(); }
__device__ inline void cluster_sync() { __trap(); }
__device__ inline uint32_t address_in(const void*, int) { return 0; }
__device__ inline void store_in_cluster(uint32_t, float) { __trap(); }
__device__ inline void store_in_cluster(uint32_t, float4) { __trap(); }
__device__ inline void store_in_cluster(uint32_t, int4) { __trap(); }

#endif

// --- Copy engine --------------------------------------------------------------------------------

// The box of `map` that begins at (inner, row, outer), to shared memory.
__device__ inline void copy_tile(void* to, const CUtensorMap* map, int inner, int row, int outer,
                                 uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared_address(to)),
      "l"(map), "r"(inner), "r"(row), "r"(outer), "r"(shared_address(barrier))
      : "memory");
}

// Of a map of halves (tensor_map.h): `row` of each.
__device__ inline void copy_tile_of_halves(void* to, const CUtensorMap* map, int inner, int row,
                                           int outer, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared_address(to)),
      "l"(map), "r"(inner), "r"(row), "r"(0), "r"(outer), "r"(shared_address(barrier))
      : "memory");
}

// `bytes` (a multiple of 16) from global memory, to shared memory.
__device__ inline void copy_bytes(void* to, const void* from, uint32_t bytes, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
}

// As copy_tile(), of an array of five dimensions.
__device__ inline void copy_box(void* to, const CUtensorMap* map, int c0, int c1, int c2, int c3,
                                int c4, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5, %6}], [%7];" ::"r"(shared_address(to)),
      "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4), "r"(shared_address(barrier))
      : "memory");
}

// A box of `map`, from (column, row) on, from shared memory; what lies outside of the matrix is
// left out. adds: of a map of bf16, to what is there; a sum is rounded to the nearest. A thread's
// copies since its last close_copies() are a group.
__device__ inline void copy_tile_out(const CUtensorMap* map, bool adds, int column, int row,
                                     uint32_t from) {
  if (adds) {
    asm volatile(
        "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%0, {%1, %2}], "
        "[%3];" ::"l"(map),
        "r"(column), "r"(row), "r"(from)
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(
            map),
        "r"(column), "r"(row), "r"(from)
        : "memory");
  }
}
__device__ inline void close_copies() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until all but the thread's latest kPending groups have been read from shared memory.
template <int kPending>
__device__ inline void wait_for_reads() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
// Until all of the thread's groups are in memory.
__device__ inline void wait_for_copies_out() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

// `bytes` (a multiple of 16) of global memory, to the second-level cache.
__device__ inline void prefetch_bytes(const void* from, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

// The box of `map` that begins at (column, row), likewise.
__device__ inline void prefetch_tile(const CUtensorMap* map, int column, int row) {
  asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global.tile [%0, {%1, %2}];" ::"l"(map),
               "r"(column), "r"(row)
               : "memory");
}

__device__ inline void prefetch_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// --- Products of a warpgroup --------------------------------------------------------------------

template <int kCount>
__device__ inline void give_up_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Keeps the compiler from moving uses of a sum across a wait.
__device__ inline void keep(float& sum) { asm volatile("" : "+f"(sum)::"memory"); }
__device__ inline void keep(int& sum) { asm volatile("" : "+r"(sum)::"memory"); }

// A tile of rows of 128 swizzled bytes; k advances by adding its byte offset / 16.
__device__ inline uint64_t tile_descriptor(const void* tile) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kAtomStride = uint64_t{1024 / 16} << 32;
  return kSwizzle128 | kAtomStride | (uint64_t{1} << 16) | ((shared_address(tile) & 0x3ffff) >> 4);
}

// The same from its lower half; the upper one is a constant, so that steps along k are additions of
// 32 bits.
__device__ inline uint32_t tile_descriptor_low(const void* tile) {
  return static_cast<uint32_t>(tile_descriptor(tile));
}
__device__ inline uint64_t descriptor_from_low(uint32_t low) {
  constexpr uint32_t kHigh = (uint32_t{1} << 30) | 1024 / 16;
  return uint64_t{kHigh} << 32 | low;
}

// The lower half of the descriptor, whose upper half is zero, of eight rows without swizzle, each
// sixteen bytes behind the one before: the first is what lies at `row`, the others are of no use,
// but must be memory of the block, to 112 bytes behind the row. k advances by adding its byte
// offset / 16.
__device__ inline uint32_t row_descriptor_low(const void* row) {
  return (uint32_t{1} << 16) | ((shared_address(row) & 0x3ffff) >> 4);
}

// B as rows along k: tiles of 64 columns (128 swizzled bytes), `column_stride` bytes apart; a step
// of sixteen rows of k is 2048 bytes.
__device__ inline uint64_t transposed_tile(const void* tile, uint32_t column_stride) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kStepStride = uint64_t{1024 / 16} << 32;
  return kSwizzle128 | kStepStride | uint64_t{column_stride / 16} << 16 |
         ((shared_address(tile) & 0x3ffff) >> 4);
}

// Four matrices of eight rows by eight columns of bf16, as products leave them (thread 4 g + t: row
// g, columns 2t and 2t + 1), to shared memory, columns as rows of sixteen bytes: lane 8 m + r says
// where column r of matrix m goes.
__device__ inline void store_matrices_transposed(void* column, const uint32_t (&words)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                   shared_address(column)),
               "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
               : "memory");
}

// The same as rows of sixteen bytes: lane 8 m + r says where row r of matrix m goes; of two
// matrices only the first sixteen lanes do.
__device__ inline void store_matrices(uint32_t row, const uint32_t (&words)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row),
               "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
               : "memory");
}
__device__ inline void store_matrices(uint32_t row, const uint32_t (&words)[2]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(row), "r"(words[0]),
               "r"(words[1])
               : "memory");
}

// Ordinary writes to shared memory before, reads by the tensor cores or the copy engine after.
__device__ inline void publish_to_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// sums[64 rows of A][kColumns rows of B] (+)= A Bᵀ over 32 bytes of k; keep = 0 starts anew. Thread
// 32 w + 4 g + t holds rows 16 w + g + 8 i, columns 8 j + 2 t + c as sums[4 j + 2 i + c].
template <MmaType type, int kColumns>
__device__ void wgmma(typename MmaTraits<type>::Sum (&d)[kColumns / 2], uint64_t a, uint64_t b,
                      int keep);

// The same over 16 inputs of bf16 with A in registers: thread 32 w + 4 g + t has of rows 16 w + g
// and 16 w + g + 8 the inputs 2t, 2t + 1 (a[0], a[1]) and 2t + 8, 2t + 9 (a[2], a[3]). They must
// not change before the product is waited for.
template <int kColumns>
__device__ void wgmma_registers(float (&d)[kColumns / 2], const uint32_t (&a)[4], uint64_t b,
                                int keep);
// The same with rows of B along k (transposed_tile()).
template <int kColumns>
__device__ void wgmma_transposed(float (&d)[kColumns / 2], const uint32_t (&a)[4], uint64_t b,
                                 int keep);

// The operand lists of the instruction for each number of columns.
#define NARROW_NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define NARROW_NAMES_24 \
  NARROW_NAMES_16       \
  ", %16, %17, %18, %19, %20, %21, %22, %23"
#define NARROW_NAMES_32 \
  NARROW_NAMES_24       \
  ", %24, %25, %26, %27, %28, %29, %30, %31"
#define NARROW_NAMES_40 \
  NARROW_NAMES_32       \
  ", %32, %33, %34, %35, %36, %37, %38, %39"
#define NARROW_NAMES_48 \
  NARROW_NAMES_40       \
  ", %40, %41, %42, %43, %44, %45, %46, %47"
#define NARROW_NAMES_56 \
  NARROW_NAMES_48       \
  ", %48, %49, %50, %51, %52, %53, %54, %55"
#define NARROW_NAMES_64 \
  NARROW_NAMES_48       \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define NARROW_NAMES_96                                                              \
  NARROW_NAMES_64                                                                    \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79" \
  ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define NARROW_NAMES_112 \
  NARROW_NAMES_96        \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define NARROW_NAMES_128                                                                         \
  NARROW_NAMES_112                                                                               \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, " \
  "%127"
#define NARROW_EIGHT(c, i)                                                            \
  c(d[i]), c(d[(i) + 1]), c(d[(i) + 2]), c(d[(i) + 3]), c(d[(i) + 4]), c(d[(i) + 5]), \
      c(d[(i) + 6]), c(d[(i) + 7])
#define NARROW_SUMS_16(c) NARROW_EIGHT(c, 0), NARROW_EIGHT(c, 8)
#define NARROW_SUMS_24(c) NARROW_SUMS_16(c), NARROW_EIGHT(c, 16)
#define NARROW_SUMS_32(c) NARROW_SUMS_24(c), NARROW_EIGHT(c, 24)
#define NARROW_SUMS_40(c) NARROW_SUMS_32(c), NARROW_EIGHT(c, 32)
#define NARROW_SUMS_48(c) NARROW_SUMS_40(c), NARROW_EIGHT(c, 40)
#define NARROW_SUMS_56(c) NARROW_SUMS_48(c), NARROW_EIGHT(c, 48)
#define NARROW_SUMS_64(c) NARROW_SUMS_48(c), NARROW_EIGHT(c, 48), NARROW_EIGHT(c, 56)
#define NARROW_SUMS_96(c)                                                           \
  NARROW_SUMS_64(c), NARROW_EIGHT(c, 64), NARROW_EIGHT(c, 72), NARROW_EIGHT(c, 80), \
      NARROW_EIGHT(c, 88)
#define NARROW_SUMS_112(c) NARROW_SUMS_96(c), NARROW_EIGHT(c, 96), NARROW_EIGHT(c, 104)
#define NARROW_SUMS_128(c) NARROW_SUMS_112(c), NARROW_EIGHT(c, 112), NARROW_EIGHT(c, 120)

// A, B, KEEP: the numbers of the operands behind the sums.
#define NARROW_WGMMA(TYPE, SUM, C, COLUMNS, SUMS, A, B, KEEP, SHAPE, TAIL)                         \
  template <>                                                                                      \
  __device__ inline void wgmma<TYPE, COLUMNS>(SUM(&d)[COLUMNS / 2], uint64_t a, uint64_t b,        \
                                              int keep) {                                          \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #KEEP                                        \
                 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #COLUMNS SHAPE " {" NARROW_NAMES_##SUMS \
                 "}, %" #A ", %" #B ", p" TAIL ";\n}"                                              \
                 : NARROW_SUMS_##SUMS(C)                                                           \
                 : "l"(a), "l"(b), "r"(keep));                                                     \
  }
#define NARROW_FLOAT(x) "+f"(x)
#define NARROW_INT(x) "+r"(x)
#define NARROW_WGMMA_TYPES(COLUMNS, SUMS, A, B, KEEP)                                              \
  NARROW_WGMMA(MmaType::bf16, float, NARROW_FLOAT, COLUMNS, SUMS, A, B, KEEP, "k16.f32.bf16.bf16", \
               ", 1, 1, 0, 0")                                                                     \
  NARROW_WGMMA(MmaType::e4m3, float, NARROW_FLOAT, COLUMNS, SUMS, A, B, KEEP, "k32.f32.e4m3.e4m3", \
               ", 1, 1")                                                                           \
  NARROW_WGMMA(MmaType::int8, int, NARROW_INT, COLUMNS, SUMS, A, B, KEEP, "k32.s32.s8.s8", "")

NARROW_WGMMA_TYPES(32, 16, 16, 17, 18)
NARROW_WGMMA_TYPES(64, 32, 32, 33, 34)
NARROW_WGMMA_TYPES(48, 24, 24, 25, 26)
NARROW_WGMMA_TYPES(112, 56, 56, 57, 58)
NARROW_WGMMA_TYPES(96, 48, 48, 49, 50)
NARROW_WGMMA_TYPES(128, 64, 64, 65, 66)
NARROW_WGMMA_TYPES(192, 96, 96, 97, 98)
NARROW_WGMMA_TYPES(224, 112, 112, 113, 114)
NARROW_WGMMA_TYPES(256, 128, 128, 129, 130)

// A0 … : the numbers of the operands behind the sums.
#define NARROW_WGMMA_REGISTERS(NAME, TRANSPOSED, COLUMNS, SUMS, A0, A1, A2, A3, B, KEEP)          \
  template <>                                                                                     \
  __device__ inline void NAME<COLUMNS>(float(&d)[COLUMNS / 2], const uint32_t(&a)[4], uint64_t b, \
                                       int keep) {                                                \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #KEEP                                       \
                 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #COLUMNS                               \
                 "k16.f32.bf16.bf16 {" NARROW_NAMES_##SUMS                                        \
                 "}, {%" #A0 ", %" #A1 ", %" #A2 ", %" #A3 "}, %" #B ", p, 1, 1, " #TRANSPOSED    \
                 ";\n}"                                                                           \
                 : NARROW_SUMS_##SUMS(NARROW_FLOAT)                                               \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep));                \
  }
NARROW_WGMMA_REGISTERS(wgmma_registers, 0, 32, 16, 16, 17, 18, 19, 20, 21)
NARROW_WGMMA_REGISTERS(wgmma_registers, 0, 64, 32, 32, 33, 34, 35, 36, 37)
NARROW_WGMMA_REGISTERS(wgmma_registers, 0, 80, 40, 40, 41, 42, 43, 44, 45)
NARROW_WGMMA_REGISTERS(wgmma_registers, 0, 128, 64, 64, 65, 66, 67, 68, 69)
NARROW_WGMMA_REGISTERS(wgmma_transposed, 1, 64, 32, 32, 33, 34, 35, 36, 37)
NARROW_WGMMA_REGISTERS(wgmma_transposed, 1, 128, 64, 64, 65, 66, 67, 68, 69)

// sums[64 rows of A][8 rows of B] += A Bᵀ over 32 inputs of e4m3 with A in registers: thread
// 32 w + 4 g + t has of rows 16 w + g (a.x, a.z) and 16 w + g + 8 (a.y, a.w) the inputs 4t … 4t + 3
// and 4t + 16 … 4t + 19. They must not change before the product is waited for.
__device__ inline void wgmma_eight_e4m3(float (&d)[4], const uint4& a, uint64_t b) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3 {%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, "
      "p, 1, 1;\n}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b));
}

#undef NARROW_WGMMA_REGISTERS
#undef NARROW_WGMMA_TYPES
#undef NARROW_INT
#undef NARROW_FLOAT
#undef NARROW_WGMMA
#undef NARROW_SUMS_128
#undef NARROW_SUMS_112
#undef NARROW_SUMS_96
#undef NARROW_SUMS_64
#undef NARROW_SUMS_48
#undef NARROW_SUMS_40
#undef NARROW_SUMS_32
#undef NARROW_SUMS_24
#undef NARROW_SUMS_56
#undef NARROW_SUMS_16
#undef NARROW_EIGHT
#undef NARROW_NAMES_128
#undef NARROW_NAMES_112
#undef NARROW_NAMES_96
#undef NARROW_NAMES_64
#undef NARROW_NAMES_48
#undef NARROW_NAMES_40
#undef NARROW_NAMES_32
#undef NARROW_NAMES_24
#undef NARROW_NAMES_56
#undef NARROW_NAMES_16

}  // namespace narrow::ops::cuda
