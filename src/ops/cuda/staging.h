// Small copies to the device that wait for nothing on it, and that nothing on it waits for long:
// what a step reads beside its weights.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>

namespace narrow::ops::cuda {

// Copies through page-locked memory, in stream order, by a kernel: between two steps that is a
// shorter pause than the copy engine makes, and a copy from ordinary memory may wait for the
// stream. One thread at a time.
class Staging {
 public:
  explicit Staging(cudaStream_t stream);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // On the stream; `from` may be reused at once. to: aligned to 16 bytes. bytes: a multiple of 4.
  void copy(void* to, const void* from, int64_t bytes);

 private:
  struct Slot {
    void* memory = nullptr;
    int64_t bytes = 0;
    cudaEvent_t emptied = nullptr;
  };
  void make_room(Slot& slot, int64_t bytes);

  cudaStream_t stream_;
  // Four copies a step (its metadata, those of the rows whose logits are wanted, and twice which
  // rows) and two steps under way.
  std::array<Slot, 10> slots_;
  size_t next_ = 0;
};

}  // namespace narrow::ops::cuda
