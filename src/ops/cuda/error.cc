#include "ops/cuda/error.h"

#include <string>

#include "base/error.h"

namespace narrow::ops::cuda {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw Error::failed(std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status),
                      std::string("CUDA, ") + what);
}

}  // namespace narrow::ops::cuda
