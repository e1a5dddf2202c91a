#include "ops/cuda/tensor_map.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "base/error.h"
#include "ops/cuda/error.h"

namespace narrow::ops::cuda {
namespace {

// Through the runtime, so that the library loads on machines without a driver.
auto encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result{};
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                         cudaEnableDefault, &result),
        "looking for cuTensorMapEncodeTiled");
  if (!function) throw Error::failed("the driver has no cuTensorMapEncodeTiled");
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

constexpr cuuint64_t kAtomBytes = 128;

cuuint64_t size(int64_t value) { return static_cast<cuuint64_t>(value); }

// How a matrix of so many columns is cut along its rows.
struct Atoms {
  Atoms(TensorMapType type, int64_t columns)
      : elements(type == TensorMapType::bf16 ? kAtomBytes / 2 : kAtomBytes),
        whole(whole_atoms(type, columns)),
        width(whole ? elements : size(columns)),
        count(whole ? size(columns) / elements : 1) {}
  cuuint32_t elements;  // of an atom
  bool whole;
  cuuint64_t width, count;
};

// Lines of 128 bytes are asked for one by one: with promotion to 256 a stream of weights is 7 %
// slower (benchmarks/lab/tile_stream.cu).
CUtensorMap encode(CUtensorMapDataType type, int dimensions, const void* data,
                   const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                   CUtensorMapSwizzle swizzle) {
  static const auto encode_tiled = encoder();
  const cuuint32_t steps[] = {1, 1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result =
      encode_tiled(&map, type, static_cast<cuuint32_t>(dimensions), const_cast<void*>(data), sizes,
                   strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                   CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw Error::failed("cuTensorMapEncodeTiled: error " + std::to_string(result));
  return map;
}

CUtensorMap swizzled_map(TensorMapType type, int dimensions, const void* data,
                         const cuuint64_t* sizes, const cuuint64_t* strides,
                         const cuuint32_t* box) {
  return encode(type == TensorMapType::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                            : CU_TENSOR_MAP_DATA_TYPE_UINT8,
                dimensions, data, sizes, strides, box, CU_TENSOR_MAP_SWIZZLE_128B);
}

}  // namespace

bool whole_atoms(TensorMapType type, int64_t columns) {
  return columns % (type == TensorMapType::bf16 ? 64 : 128) == 0;
}

CUtensorMap atoms_map(const void* data, TensorMapType type, int64_t columns, int64_t rows,
                      int64_t stride_bytes, int box_rows, int box_atoms) {
  const Atoms atoms(type, columns);
  const cuuint64_t sizes[] = {atoms.width, size(rows), atoms.count};
  const cuuint64_t strides[] = {size(stride_bytes), kAtomBytes};
  const cuuint32_t box[] = {atoms.elements, static_cast<cuuint32_t>(box_rows),
                            atoms.whole ? static_cast<cuuint32_t>(box_atoms) : 1};
  return swizzled_map(type, 3, data, sizes, strides, box);
}

CUtensorMap atoms_of_halves_map(const void* data, TensorMapType type, int64_t columns, int64_t rows,
                                int64_t stride_bytes, int box_rows, int box_atoms) {
  const Atoms atoms(type, columns);
  const cuuint64_t sizes[] = {atoms.width, size(rows / 2), 2, atoms.count};
  const cuuint64_t strides[] = {size(stride_bytes), size(rows / 2 * stride_bytes), kAtomBytes};
  const cuuint32_t box[] = {atoms.elements, static_cast<cuuint32_t>(box_rows / 2), 2,
                            atoms.whole ? static_cast<cuuint32_t>(box_atoms) : 1};
  return swizzled_map(type, 4, data, sizes, strides, box);
}

CUtensorMap rows_map(void* data, int64_t columns, int64_t rows, int64_t stride_bytes,
                     int box_columns, int box_rows) {
  const cuuint64_t sizes[] = {size(columns), size(rows)}, strides[] = {size(stride_bytes)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(box_columns),
                            static_cast<cuuint32_t>(box_rows)};
  return encode(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, data, sizes, strides, box,
                box_columns == 64   ? CU_TENSOR_MAP_SWIZZLE_128B
                : box_columns == 32 ? CU_TENSOR_MAP_SWIZZLE_64B
                : box_columns == 16 ? CU_TENSOR_MAP_SWIZZLE_32B
                                    : CU_TENSOR_MAP_SWIZZLE_NONE);
}

CUtensorMap words_map(const void* data, const std::array<int64_t, 5>& sizes,
                      const std::array<int64_t, 4>& strides_bytes, const std::array<int, 5>& box) {
  cuuint64_t size[5], stride[4];
  cuuint32_t of_box[5];
  std::copy(sizes.begin(), sizes.end(), size);
  std::copy(strides_bytes.begin(), strides_bytes.end(), stride);
  std::copy(box.begin(), box.end(), of_box);
  return encode(CU_TENSOR_MAP_DATA_TYPE_UINT32, 5, data, size, stride, of_box,
                CU_TENSOR_MAP_SWIZZLE_NONE);
}

}  // namespace narrow::ops::cuda
