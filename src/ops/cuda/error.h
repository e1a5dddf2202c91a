// Return codes of the CUDA runtime as narrow::Error.
#pragma once

#include <cuda_runtime_api.h>

namespace narrow::ops::cuda {

// Throws Error::failed naming `what` and the runtime's own words.
void check(cudaError_t status, const char* what);

}  // namespace narrow::ops::cuda
