#include "ops/cuda/gemm.cuh"

namespace narrow::ops::cuda {

void gemm_bf16(const Gemm& gemm, cudaStream_t stream) { run_gemm<MmaType::bf16>(gemm, stream); }

}  // namespace narrow::ops::cuda
