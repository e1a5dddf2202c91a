// Hopper's asynchronous parts on the host, for kernels that run so (block.h): barriers in shared
// memory that count bytes, the copy engine, products of a warpgroup.
//
// All of it comes as late as it may. Tiles are copied to shared memory when no thread can go on
// without, one of them at random; until then what they overwrite is spoilt (NaN in every floating
// type, -1 in int8). Tiles are copied out when their memory may be used again. Products are made
// when they are waited for, some of them when no thread can go on without, of what then lies in
// shared memory.
//
// Not like a GPU: sums of 16 or 32 products are in double and are rounded to float32; what a
// product reads is not looked at, since rows that are no rows of its matrix may be anything.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace narrow::emulation {

// --- Barriers, by their shared addresses --------------------------------------------------------

void init_barrier(uint32_t barrier, uint32_t arrivals);
void arrive(uint32_t barrier);
void arrive_expecting(uint32_t barrier, uint32_t bytes);
// Arrives when the copies of single units (block.h) are there that the thread has asked for.
void arrive_after_copies(uint32_t barrier);
// Until the phase of this parity is complete.
void wait_at_barrier(uint32_t barrier, uint32_t parity);

// --- Copy engine --------------------------------------------------------------------------------

// The box of `map` that begins at the coordinates, one for each dimension.
void copy_box(uint32_t to, const CUtensorMap& map, const int* coordinates, uint32_t barrier);
// From shared memory, of the thread's open group. adds: to numbers in bf16.
void copy_box_out(const CUtensorMap& map, bool adds, const int* coordinates, uint32_t from);
void close_copies_out();
// Until all but the thread's latest `pending` groups are out.
void wait_for_copies_out(int pending);

// --- Products -----------------------------------------------------------------------------------

enum class Factor { bf16, e4m3, int8 };

// sums[64 rows][columns] (+)= A Bᵀ over 32 bytes of k, by all threads of a warpgroup, of which each
// has columns / 2 sums as wgmma deals them out: of floats, or of ints for int8. a, b: where the
// tiles begin, in rows of 128 swizzled bytes. adds: else it starts anew.
void multiply(Factor factor, int columns, void* sums, uint32_t a, uint32_t b, bool adds);
// The same of bf16 with A as wgmma takes it from registers.
void multiply_registers(int columns, float* sums, const uint32_t (&a)[4], uint32_t b, bool adds);
// And of e4m3, of eight rows of B, each of which lies sixteen bytes behind the one before, without
// swizzle; it adds.
void multiply_row_e4m3(float* sums, const uint32_t (&a)[4], uint32_t b);
// And with rows of B along k: tiles of 64 columns in rows of 128 swizzled bytes, the first at b,
// `column_stride` bytes apart.
void multiply_transposed(int columns, float* sums, const uint32_t (&a)[4], uint32_t b,
                         uint32_t column_stride, bool adds);
void commit_products();
void wait_for_products(int pending);

}  // namespace narrow::emulation
