#include "ops/cuda/staging.h"

#include <algorithm>
#include <cstring>

#include "ops/cuda/error.h"
#include "ops/cuda/kernels.h"

namespace narrow::ops::cuda {
namespace {

// A step of 8192 rows has a quarter of a megabyte; taking page-locked memory waits for the device.
constexpr int64_t kLeastBytes = int64_t{512} << 10;

}  // namespace

Staging::Staging(cudaStream_t stream) : stream_(stream) {
  for (Slot& slot : slots_) {
    check(cudaEventCreateWithFlags(&slot.emptied, cudaEventDisableTiming), "event");
    make_room(slot, kLeastBytes);
  }
}

Staging::~Staging() {
  cudaStreamSynchronize(stream_);
  for (Slot& slot : slots_) {
    if (slot.emptied) cudaEventDestroy(slot.emptied);
    if (slot.memory) cudaFreeHost(slot.memory);
  }
}

void Staging::make_room(Slot& slot, int64_t bytes) {
  if (slot.bytes >= bytes) return;
  if (slot.memory) check(cudaFreeHost(slot.memory), "freeing host memory");
  slot.memory = nullptr;
  slot.bytes = 0;
  const int64_t room = std::max(2 * bytes, kLeastBytes);
  check(cudaMallocHost(&slot.memory, static_cast<size_t>(room)), "page-locked host memory");
  slot.bytes = room;
}

void Staging::copy(void* to, const void* from, int64_t bytes) {
  Slot& slot = slots_[next_++ % slots_.size()];
  check(cudaEventSynchronize(slot.emptied), "copy to the device");
  make_room(slot, bytes);
  std::memcpy(slot.memory, from, static_cast<size_t>(bytes));
  copy_words(static_cast<uint32_t*>(to), static_cast<const uint32_t*>(slot.memory), bytes / 4,
             stream_);
  check(cudaEventRecord(slot.emptied, stream_), "event");
}

}  // namespace narrow::ops::cuda
