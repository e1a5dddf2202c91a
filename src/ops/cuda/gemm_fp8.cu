#include "ops/cuda/gemm.cuh"

namespace narrow::ops::cuda {

void gemm_fp8(const Gemm& gemm, cudaStream_t stream) { run_gemm<MmaType::e4m3>(gemm, stream); }

}  // namespace narrow::ops::cuda
