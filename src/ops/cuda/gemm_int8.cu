#include "ops/cuda/gemm.cuh"

namespace narrow::ops::cuda {

void gemm_int8(const Gemm& gemm, cudaStream_t stream) {
  if (split_int8(gemm, stream)) return;
  run_gemm<MmaType::int8>(gemm, stream);
}

}  // namespace narrow::ops::cuda
