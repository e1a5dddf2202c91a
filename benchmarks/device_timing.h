// What the programs that time single kernels share.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

#include "ops/cuda/error.h"

namespace narrow::ops::cuda {

class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes) { check(cudaMalloc(&data_, bytes), "cudaMalloc"); }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

// The mean over one long train of launches, in microseconds.
inline double time_of(const std::function<void(int)>& launch, int repetitions,
                      cudaStream_t stream) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  for (int i = 0; i < 5; ++i) launch(i);
  check(cudaEventRecord(begin, stream), "event");
  for (int i = 0; i < repetitions; ++i) launch(i);
  check(cudaEventRecord(end, stream), "event");
  check(cudaEventSynchronize(end), "a kernel");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, begin, end), "event");
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return 1000.0 * milliseconds / repetitions;
}

}  // namespace narrow::ops::cuda
