// Device memory as DeviceBuffers, and memory that only grows.
#pragma once

#include <cuda_runtime_api.h>

#include "ops/backend.h"

namespace narrow::ops::cuda {

// Zeroed when `stream` gets there. Throws Error::failed saying how much was asked for and is free.
DeviceBuffer allocate(int64_t bytes, cudaStream_t stream);

// From the stream's own pool, in stream order both ways: no wait, for what lives one step. Not
// cleared. `stream` must outlive it.
DeviceBuffer allocate_for_step(int64_t bytes, cudaStream_t stream);

// Copies on `stream`; the host memory may be reused at once.
void copy_to_device(void* to, const void* from, int64_t bytes, cudaStream_t stream);

// At least `bytes` of zeros or of what was there; contents and address are lost when it grows.
class GrowingBuffer {
 public:
  template <class T>
  T* at_least(int64_t bytes, cudaStream_t stream) {
    if (buffer_.size_bytes < bytes) {
      buffer_ = allocate(bytes, stream);
      ++growths_;
    }
    return static_cast<T*>(buffer_.data.get());
  }
  int growths() const { return growths_; }

 private:
  DeviceBuffer buffer_;
  int growths_ = 0;
};

}  // namespace narrow::ops::cuda
