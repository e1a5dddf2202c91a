#include "ops/cuda/portable.h"
#include "ops/cuda/portable_gemm.cuh"

namespace narrow::ops::cuda {

void portable_bf16(const Gemm& gemm, cudaStream_t stream) {
  run_portable<Bf16Rows>(gemm, 2, stream);
}

}  // namespace narrow::ops::cuda
