// Device memory as DeviceBuffers, and memory that only grows.
#pragma once

#include <cuda_runtime_api.h>

#include <array>

#include "base/thread_pool.h"
#include "ops/backend.h"

namespace narrow::ops::cuda {

// Zeroed when `stream` gets there. Throws Error::failed saying how much was asked for and is free.
DeviceBuffer allocate(int64_t bytes, cudaStream_t stream);

// From the stream's own pool, in stream order both ways: no wait, for what lives one step. Not
// cleared. `stream` must outlive it.
DeviceBuffer allocate_for_step(int64_t bytes, cudaStream_t stream);

// Copies on `stream`; the host memory may be reused at once.
void copy_to_device(void* to, const void* from, int64_t bytes, cudaStream_t stream);

// Large copies to the device through page-locked memory, filled by many threads while the copy
// engine empties what is full: several times as fast as a copy from ordinary memory. One thread at
// a time.
class Uploader {
 public:
  Uploader(ThreadPool& pool, cudaStream_t stream);
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  // On the stream; `from` may be reused at once.
  void copy(void* to, const void* from, int64_t bytes);

 private:
  struct Slot {
    std::byte* memory = nullptr;
    cudaEvent_t emptied = nullptr;
  };
  ThreadPool& pool_;
  cudaStream_t stream_;
  std::array<Slot, 4> slots_;
  size_t next_ = 0;
};

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
