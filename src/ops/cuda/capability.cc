#include "ops/cuda/capability.h"

#include <cuda_runtime_api.h>

#include "ops/cuda/error.h"

namespace narrow::ops::cuda {
namespace {

int attribute(cudaDeviceAttr which, const char* what) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device), "current device");
  check(cudaDeviceGetAttribute(&value, which, device), what);
  return value;
}

}  // namespace

int compute_capability() {
  static const int capability =
      10 * attribute(cudaDevAttrComputeCapabilityMajor, "compute capability") +
      attribute(cudaDevAttrComputeCapabilityMinor, "compute capability");
  return capability;
}

bool has_clusters() { return compute_capability() >= 90; }

int processors() {
  static const int count =
      attribute(cudaDevAttrMultiProcessorCount, "multiprocessors of the device");
  return count;
}

int shared_memory_of_processor() {
  static const int bytes =
      attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, "shared memory of the device");
  return bytes;
}

}  // namespace narrow::ops::cuda
