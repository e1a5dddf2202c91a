#include "ops/cuda/memory.h"

#include <fmt/format.h>

#include "base/error.h"
#include "ops/cuda/error.h"

namespace narrow::ops::cuda {

DeviceBuffer allocate(int64_t bytes, cudaStream_t stream) {
  void* memory = nullptr;
  const auto size = static_cast<size_t>(std::max<int64_t>(bytes, 16));
  const cudaError_t status = cudaMalloc(&memory, size);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // the failed call leaves no error behind
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "memory information");
    throw Error::failed(
        fmt::format("out of GPU memory: {:.2f} GiB asked for, {:.2f} of {:.2f} free",
                    static_cast<double>(size) / (1 << 30), static_cast<double>(free) / (1 << 30),
                    static_cast<double>(total) / (1 << 30)),
        "--backend cuda", "take a smaller format, context or batch");
  }
  check(status, "allocation");
  DeviceBuffer buffer;
  buffer.data = std::shared_ptr<void>(memory, [](void* p) { cudaFree(p); });
  buffer.size_bytes = bytes;
  check(cudaMemsetAsync(memory, 0, size, stream), "clearing memory");
  return buffer;
}

DeviceBuffer allocate_for_step(int64_t bytes, cudaStream_t stream) {
  void* memory = nullptr;
  check(cudaMallocAsync(&memory, static_cast<size_t>(std::max<int64_t>(bytes, 16)), stream),
        "allocation of a step");
  DeviceBuffer buffer;
  buffer.data = std::shared_ptr<void>(memory, [stream](void* p) { cudaFreeAsync(p, stream); });
  buffer.size_bytes = bytes;
  return buffer;
}

void copy_to_device(void* to, const void* from, int64_t bytes, cudaStream_t stream) {
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream),
        "copy to the device");
}

}  // namespace narrow::ops::cuda
