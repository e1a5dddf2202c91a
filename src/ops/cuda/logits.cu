// Summaries of rows of logits: a block a row. Sums are in an order fixed by the block's size.
#include "ops/cuda/device.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"

namespace narrow::ops::cuda {
namespace {

constexpr int kThreads = 1024, kWarps = kThreads / kWarpSize;

struct Best {
  float value;
  int id;
};

// The larger logit, of equal ones the lower id.
__device__ inline Best better(Best a, Best b) {
  return b.value > a.value || (b.value == a.value && b.id < a.id) ? b : a;
}

__device__ inline Best best_of_warp(Best best) {
  for (int offset = 16; offset > 0; offset /= 2)
    best = better(best, {__shfl_xor_sync(0xffffffffu, best.value, offset),
                         __shfl_xor_sync(0xffffffffu, best.id, offset)});
  return best;
}

__global__ void __launch_bounds__(kThreads)
    summarize_logits_kernel(const float* logits, const LogitQuery* queries, LogitSummary* out,
                            int32_t* chosen, int vocabulary) {
  __shared__ Best bests[kWarps];
  __shared__ double sums[kWarps];
  __shared__ int32_t asked;
  __shared__ bool normalize;
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  // From the host's memory, while the kernel before this one runs.
  if (threadIdx.x == 0) {
    asked = queries[blockIdx.x].target;
    normalize = queries[blockIdx.x].normalize;
  }
  let_next_kernel_start();
  wait_for_previous_kernel();
  const float* row = logits + static_cast<int64_t>(blockIdx.x) * vocabulary;
  Best best{-INFINITY, vocabulary};
  for (int i = threadIdx.x; i < vocabulary; i += kThreads) best = better(best, {row[i], i});
  best = best_of_warp(best);
  if (lane == 0) bests[warp] = best;
  __syncthreads();
  best = best_of_warp(bests[lane]);
  // Nothing larger than -∞ (all logits are NaN): the first token, as on the host.
  if (best.id == vocabulary) best.id = 0;
  const int32_t target = asked;
  double total = 0;
  if (normalize) {
    for (int i = threadIdx.x; i < vocabulary; i += kThreads) total += expf(row[i] - best.value);
    for (int offset = 16; offset > 0; offset /= 2)
      total += __shfl_xor_sync(0xffffffffu, total, offset);
    if (lane == 0) sums[warp] = total;
    __syncthreads();
    total = sums[lane];
    for (int offset = 16; offset > 0; offset /= 2)
      total += __shfl_xor_sync(0xffffffffu, total, offset);
  }
  if (threadIdx.x == 0) {
    chosen[blockIdx.x] = best.id;
    out[blockIdx.x] = {best.id, best.id, target >= 0 ? row[target] : 0,
                       normalize ? best.value + log(total) : 0};
  }
}

}  // namespace

void summarize_logits(const float* logits, const LogitQuery* queries, LogitSummary* out,
                      int32_t* chosen, int64_t rows, int64_t vocabulary, cudaStream_t stream) {
  if (rows == 0) return;
  launch(summarize_logits_kernel, static_cast<unsigned>(rows), kThreads, 0, stream, logits, queries,
         out, chosen, static_cast<int>(vocabulary));
}

}  // namespace narrow::ops::cuda
