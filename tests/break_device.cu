#include "break_device.h"

#include <cuda_runtime_api.h>

namespace narrow {
namespace {

__global__ void trap() { __trap(); }

}  // namespace

std::string break_device() {
  trap<<<1, 1>>>();
  return cudaGetErrorName(cudaDeviceSynchronize());
}

}  // namespace narrow
