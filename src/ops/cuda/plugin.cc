// What libnarrow_cuda.so exports (ops/cuda_plugin.h).
#include "ops/cuda/cuda_backend.h"
#include "ops/cuda_plugin.h"

extern "C" __attribute__((visibility("default"))) const char* narrow_cuda_stamp() {
  return NARROW_OPS_STAMP;
}

extern "C" __attribute__((visibility("default"))) narrow::ops::Backend* narrow_cuda_backend(
    int threads, narrow::ops::CudaKernels kernels) {
  return narrow::ops::cuda::make_cuda_backend(threads, kernels).release();
}
