// Descriptions of matrices for the copy engine.
#pragma once

#include <cuda.h>

#include <array>
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
// The same of a matrix whose two halves of the rows stand beside each other: a box is box_rows / 2
// rows of the first half and as many of the second. Coordinates: (element, row of a half, 0, atom).
CUtensorMap atoms_of_halves_map(const void* data, TensorMapType type, int64_t columns, int64_t rows,
                                int64_t stride_bytes, int box_rows, int box_atoms);
bool whole_atoms(TensorMapType type, int64_t columns);

// A row-major matrix of bf16 whose boxes lie in shared memory as rows of box_columns numbers, a
// multiple of 8; of 16, 32 or 64 in the swizzle of as many bytes. Coordinates: (column, row). data
// and stride_bytes: multiples of 16. Throws Error::failed.
CUtensorMap rows_map(void* data, int64_t columns, int64_t rows, int64_t stride_bytes,
                     int box_columns, int box_rows);

// An array of five dimensions of 32-bit words, the innermost first and without gaps, whose box lies
// in shared memory without gaps. strides_bytes: of the others. Throws Error::failed.
CUtensorMap words_map(const void* data, const std::array<int64_t, 5>& sizes,
                      const std::array<int64_t, 4>& strides_bytes, const std::array<int, 5>& box);

}  // namespace narrow::ops::cuda
