// Summaries of rows of logits and comparisons of two: a block a row. Sums are in an order fixed by
// the block's size.
#include "ops/cuda/device.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/sampling.h"

namespace narrow::ops::cuda {
namespace {

constexpr int kThreads = 1024, kWarps = kThreads / kWarpSize;

// The larger logit, of equal ones the lower id.
__device__ inline TokenLogit better(TokenLogit a, TokenLogit b) {
  return b.logit > a.logit || (b.logit == a.logit && b.id < a.id) ? b : a;
}

__device__ inline TokenLogit best_of_warp(TokenLogit best) {
  for (int offset = 16; offset > 0; offset /= 2)
    best = better(best, {__shfl_xor_sync(0xffffffffu, best.id, offset),
                         __shfl_xor_sync(0xffffffffu, best.logit, offset)});
  return best;
}

// Of a row, to all threads. bests: of shared memory, for this row alone.
__device__ inline TokenLogit best_of_block(const float* row, int vocabulary,
                                           TokenLogit (&bests)[kWarps]) {
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  TokenLogit best{vocabulary, -INFINITY};
  for (int i = threadIdx.x; i < vocabulary; i += kThreads) best = better(best, {i, row[i]});
  best = best_of_warp(best);
  if (lane == 0) bests[warp] = best;
  __syncthreads();
  best = best_of_warp(bests[lane]);
  // Nothing larger than -∞ (all logits are NaN): the first token, as on the host.
  if (best.id == vocabulary) best.id = 0;
  return best;
}

// The same of the threads' numbers.
__device__ inline double sum_of_block(double total, double (&sums)[kWarps]) {
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const auto sum_of_warp = [](double sum) {
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    return sum;
  };
  total = sum_of_warp(total);
  if (lane == 0) sums[warp] = total;
  __syncthreads();
  return sum_of_warp(sums[lane]);
}

__device__ inline double log_sum_exp(const float* row, int vocabulary, float largest,
                                     double (&sums)[kWarps]) {
  double total = 0;
  for (int i = threadIdx.x; i < vocabulary; i += kThreads) total += expf(row[i] - largest);
  return largest + log(sum_of_block(total, sums));
}

// The `count` best tokens of a row. A thread knows the best of its own that is not found yet; when
// it is, the thread's warp looks for the next. ranks: of shared memory.
__device__ inline void find_best(const float* row, int vocabulary, int count, TokenLogit* out,
                                 uint64_t (&ranks)[kWarps]) {
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const auto most_of_warp = [](uint64_t most) {
    for (int offset = 16; offset > 0; offset /= 2)
      most = max(most, uint64_t{__shfl_xor_sync(0xffffffffu, most, offset)});
    return most;
  };
  if (count == 0) return;
  uint64_t mine = 0;
  for (int i = threadIdx.x; i < vocabulary; i += kThreads) mine = max(mine, rank_of(row[i], i));
#pragma unroll 1
  for (int n = 0; n < min(count, vocabulary); ++n) {
    const uint64_t of_warp = most_of_warp(mine);
    __syncthreads();  // all have read the ranks of the token before
    if (lane == 0) ranks[warp] = of_warp;
    __syncthreads();
    const uint64_t found = most_of_warp(ranks[lane]);
    const auto id = static_cast<int32_t>(~static_cast<uint32_t>(found));
    if (threadIdx.x == 0) out[n] = {id, row[id]};
    const int finder = id % kThreads;
    if (finder / kWarpSize != warp) continue;
    uint64_t next = 0;
    for (int i = finder + lane * kThreads; i < vocabulary; i += kWarpSize * kThreads)
      if (const uint64_t rank = rank_of(row[i], i); rank < found) next = max(next, rank);
    next = most_of_warp(next);
    if (lane == finder % kWarpSize) mine = next;
  }
}

__global__ void __launch_bounds__(kThreads)
    summarize_logits_kernel(const float* logits, const LogitQuery* queries, LogitSummary* out,
                            int32_t* chosen, int vocabulary) {
  __shared__ TokenLogit bests[kWarps];
  __shared__ double sums[kWarps];
  __shared__ uint64_t ranks[kWarps];
  __shared__ int32_t asked, wanted;
  __shared__ bool normalize;
  // From the host's memory, while the kernel before this one runs.
  if (threadIdx.x == 0) {
    asked = queries[blockIdx.x].target;
    wanted = queries[blockIdx.x].best_count;
    normalize = queries[blockIdx.x].normalize;
  }
  let_next_kernel_start();
  wait_for_previous_kernel();
  const float* row = logits + static_cast<int64_t>(blockIdx.x) * vocabulary;
  const TokenLogit best = best_of_block(row, vocabulary, bests);
  const int32_t target = asked;
  const double sum = normalize ? log_sum_exp(row, vocabulary, best.logit, sums) : 0;
  LogitSummary& summary = out[blockIdx.x];
  if (threadIdx.x == 0) {
    chosen[blockIdx.x] = summary.argmax = summary.chosen = best.id;
    summary.target = target >= 0 ? row[target] : 0;
    summary.chosen_logit = row[best.id];
    summary.log_sum_exp = sum;
  }
  find_best(row, vocabulary, wanted, summary.best.data(), ranks);
}

__global__ void __launch_bounds__(kThreads)
    compare_logits_kernel(const float* all_p, const float* all_q, const int32_t* targets,
                          LogitDivergence* out, int vocabulary) {
  __shared__ TokenLogit bests[2][kWarps];
  __shared__ double sums[3][kWarps];
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t first = static_cast<int64_t>(blockIdx.x) * vocabulary;
  const float *p = all_p + first, *q = all_q + first;
  const TokenLogit best_p = best_of_block(p, vocabulary, bests[0]);
  const TokenLogit best_q = best_of_block(q, vocabulary, bests[1]);
  const double sum_p = log_sum_exp(p, vocabulary, best_p.logit, sums[0]);
  const double sum_q = log_sum_exp(q, vocabulary, best_q.logit, sums[1]);
  double kl = 0;
  for (int i = threadIdx.x; i < vocabulary; i += kThreads) {
    const double log_p = p[i] - sum_p;
    const float share = expf(static_cast<float>(log_p));
    if (share != 0) kl += share * (log_p - (q[i] - sum_q));
  }
  kl = sum_of_block(kl, sums[2]);
  if (threadIdx.x > 0) return;
  const int32_t target = targets[blockIdx.x];
  out[blockIdx.x] = {kl, sum_p - p[target], sum_q - q[target], best_p.id == best_q.id};
}

}  // namespace

void summarize_logits(const float* logits, const LogitQuery* queries, LogitSummary* out,
                      int32_t* chosen, int64_t rows, int64_t vocabulary, cudaStream_t stream) {
  if (rows == 0) return;
  launch(summarize_logits_kernel, static_cast<unsigned>(rows), kThreads, 0, stream, logits, queries,
         out, chosen, static_cast<int>(vocabulary));
}

void compare_logits(const float* p, const float* q, const int32_t* targets, LogitDivergence* out,
                    int64_t rows, int64_t vocabulary, cudaStream_t stream) {
  if (rows == 0) return;
  launch(compare_logits_kernel, static_cast<unsigned>(rows), kThreads, 0, stream, p, q, targets,
         out, static_cast<int>(vocabulary));
}

}  // namespace narrow::ops::cuda
