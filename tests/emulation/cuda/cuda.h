// In place of NVIDIA's header: what describes matrices for the copy engine.
#pragma once

#include <cstddef>
#include <cstdint>

struct CUtensorMap {
  std::byte* data;
  int element_bytes, dimensions;
  int64_t sizes[5], strides[5];  // strides: in bytes
  int box[5];
  int swizzle;  // of so many bytes; 16: none
};

using cuuint32_t = uint32_t;
using cuuint64_t = uint64_t;
enum CUtensorMapDataType {
  CU_TENSOR_MAP_DATA_TYPE_UINT8 = 1,  // bytes of an element
  CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 2,
  CU_TENSOR_MAP_DATA_TYPE_UINT32 = 4
};
enum CUtensorMapSwizzle {
  CU_TENSOR_MAP_SWIZZLE_NONE = 16,
  CU_TENSOR_MAP_SWIZZLE_32B = 32,
  CU_TENSOR_MAP_SWIZZLE_64B = 64,
  CU_TENSOR_MAP_SWIZZLE_128B = 128
};
enum { CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_L2_PROMOTION_L2_128B };
enum { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE };
enum CUresult { CUDA_SUCCESS };

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t dimensions,
                                void* data, const cuuint64_t* sizes, const cuuint64_t* strides,
                                const cuuint32_t* box, const cuuint32_t* steps, int interleave,
                                CUtensorMapSwizzle swizzle, int promotion, int fill);
