// Copies that kernels do better than the copy engine: small ones out of the host's memory.
#include "ops/cuda/device.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"

namespace narrow::ops::cuda {
namespace {

constexpr int kThreads = 256, kWordsOfThread = 4;  // 16 bytes: one request to the host's memory

__global__ void copy_words_kernel(uint32_t* to, const uint32_t* from, int64_t words) {
  const int64_t first =
      (blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x) * kWordsOfThread;
  const bool whole = first + kWordsOfThread <= words;
  uint4 vector{};
  if (whole) vector = *reinterpret_cast<const uint4*>(from + first);
  // What is there may still be read by kernels before this one.
  wait_for_previous_kernel();
  if (whole) {
    *reinterpret_cast<uint4*>(to + first) = vector;
  } else {
    for (int64_t i = first; i < words; ++i) to[i] = from[i];
  }
}

}  // namespace

void copy_words(uint32_t* to, const uint32_t* from, int64_t words, cudaStream_t stream) {
  if (words == 0) return;
  launch(copy_words_kernel, static_cast<unsigned>(div_up(words, kThreads * kWordsOfThread)),
         kThreads, 0, stream, to, from, words);
}

}  // namespace narrow::ops::cuda
