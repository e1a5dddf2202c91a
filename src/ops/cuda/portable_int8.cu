#include "ops/cuda/portable.h"
#include "ops/cuda/portable_gemm.cuh"

namespace narrow::ops::cuda {

void portable_int8(const Gemm& gemm, cudaStream_t stream) {
  run_portable<Int8Rows>(gemm, 1, stream);
}

}  // namespace narrow::ops::cuda
