#include "ops/cuda/capability.h"

#include <cuda_runtime_api.h>

#include "ops/cuda/error.h"

namespace narrow::ops::cuda {

int compute_capability() {
  static const int capability = [] {
    int device = 0, major = 0, minor = 0;
    check(cudaGetDevice(&device), "current device");
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
          "compute capability");
    check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
          "compute capability");
    return 10 * major + minor;
  }();
  return capability;
}

bool has_clusters() { return compute_capability() >= 90; }

}  // namespace narrow::ops::cuda
