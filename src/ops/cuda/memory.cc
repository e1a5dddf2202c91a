#include "ops/cuda/memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

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

namespace {

constexpr int64_t kSlotBytes = int64_t{8} << 20;
constexpr int64_t kPieceBytes = int64_t{256} << 10;  // of one thread

}  // namespace

Uploader::Uploader(ThreadPool& pool, cudaStream_t stream) : pool_(pool), stream_(stream) {
  for (Slot& slot : slots_) {
    check(cudaMallocHost(reinterpret_cast<void**>(&slot.memory), kSlotBytes),
          "page-locked host memory");
    check(cudaEventCreateWithFlags(&slot.emptied, cudaEventDisableTiming), "event");
  }
}

Uploader::~Uploader() {
  cudaStreamSynchronize(stream_);
  for (Slot& slot : slots_) {
    if (slot.emptied) cudaEventDestroy(slot.emptied);
    if (slot.memory) cudaFreeHost(slot.memory);
  }
}

void Uploader::copy(void* to, const void* from, int64_t bytes) {
  for (int64_t done = 0; done < bytes; done += kSlotBytes) {
    const int64_t size = std::min(kSlotBytes, bytes - done);
    Slot& slot = slots_[next_++ % slots_.size()];
    check(cudaEventSynchronize(slot.emptied), "copy to the device");
    const auto* source = static_cast<const std::byte*>(from) + done;
    pool_.parallel_for((size + kPieceBytes - 1) / kPieceBytes, 1, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kPieceBytes, last = std::min(size, end * kPieceBytes);
      std::memcpy(slot.memory + first, source + first, static_cast<size_t>(last - first));
    });
    copy_to_device(static_cast<std::byte*>(to) + done, slot.memory, size, stream_);
    check(cudaEventRecord(slot.emptied, stream_), "event");
  }
}

}  // namespace narrow::ops::cuda
