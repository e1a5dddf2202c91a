// Descriptions of matrices for the copy engine.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace narrow::ops::cuda {

enum class TensorMapType { bf16, byte };

// A row-major matrix cut into columns of 128 bytes ("atoms"). A box is box_atoms atoms of box_rows
// rows, which lie in shared memory atom by atom, each in the 128-byte swizzle; what lies outside
// the matrix is zero. Its coordinates are (element, row, atom) with element 0; of a matrix whose
// width is no multiple of 128 bytes (box_atoms is 1 then) they are (first element, row, 0). data
// and stride_bytes: multiples of 16. Throws Error::failed.
CUtensorMap atoms_map(const void* data, TensorMapType type, int64_t columns, int64_t rows,
                      int64_t stride_bytes, int box_rows, int box_atoms);
bool whole_atoms(TensorMapType type, int64_t columns);

// Multiprocessors of the current device.
int processors();

}  // namespace narrow::ops::cuda
