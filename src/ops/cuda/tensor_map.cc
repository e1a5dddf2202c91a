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

}  // namespace

bool whole_atoms(TensorMapType type, int64_t columns) {
  return columns % (type == TensorMapType::bf16 ? 64 : 128) == 0;
}

CUtensorMap atoms_map(const void* data, TensorMapType type, int64_t columns, int64_t rows,
                      int64_t stride_bytes, int box_rows, int box_atoms) {
  static const auto encode = encoder();
  const bool bf16 = type == TensorMapType::bf16;
  const int64_t atom = bf16 ? 64 : 128;
  const bool whole = whole_atoms(type, columns);
  const auto size = [](int64_t value) { return static_cast<cuuint64_t>(value); };
  const cuuint64_t sizes[] = {size(whole ? atom : columns), size(rows),
                              size(whole ? columns / atom : 1)};
  const cuuint64_t strides[] = {size(stride_bytes), 128};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(atom), static_cast<cuuint32_t>(box_rows),
                            static_cast<cuuint32_t>(whole ? box_atoms : 1)};
  const cuuint32_t steps[] = {1, 1, 1};
  CUtensorMap map;
  const CUresult result =
      encode(&map, bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_UINT8, 3,
             const_cast<void*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw Error::failed("cuTensorMapEncodeTiled: error " + std::to_string(result));
  return map;
}

CUtensorMap words_map(const void* data, const std::array<int64_t, 5>& sizes,
                      const std::array<int64_t, 4>& strides_bytes, const std::array<int, 5>& box) {
  static const auto encode = encoder();
  cuuint64_t size[5], stride[4];
  cuuint32_t of_box[5];
  std::copy(sizes.begin(), sizes.end(), size);
  std::copy(strides_bytes.begin(), strides_bytes.end(), stride);
  std::copy(box.begin(), box.end(), of_box);
  const cuuint32_t steps[] = {1, 1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT32, 5, const_cast<void*>(data), size, stride, of_box,
             steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw Error::failed("cuTensorMapEncodeTiled: error " + std::to_string(result));
  return map;
}

}  // namespace narrow::ops::cuda
