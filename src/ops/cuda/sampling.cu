// Tokens drawn from rows of logits as ops/sampling.h defines it: a block a row. All sums are of
// integers, so the order in which threads add does not matter.
#include "ops/cuda/device.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/sampling.h"

namespace narrow::ops::cuda {
namespace {

constexpr int kThreads = 1024, kWarps = kThreads / kWarpSize;
constexpr int kWays = 8;    // pieces into which a pass of the search for a cut divides the ranks
constexpr int kFew = 1024;  // tokens among which the cut is found directly: one a thread

struct Scratch {
  uint64_t sums[kWarps][2 * kWays];
  uint64_t ranks[kFew], measures[kFew];
  uint64_t cut;
  int few;
};

struct Row {
  const float* logits;
  int vocabulary;

  // function(rank, logit) of every token, dealt to the threads.
  template <class Function>
  __device__ void for_each(Function function) const {
    for (int id = threadIdx.x; id < vocabulary; id += kThreads)
      function(rank_of(logits[id], id), logits[id]);
  }
};

__device__ inline uint64_t sum_of_warp(uint64_t value) {
  for (int offset = 16; offset > 0; offset /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

// Sums over the block, in every thread.
template <int kCount>
__device__ void sum_of_block(uint64_t (&values)[kCount], Scratch& scratch) {
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const uint64_t sum = sum_of_warp(values[i]);
    if (lane == 0) scratch.sums[warp][i] = sum;
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kCount; ++i) values[i] = sum_of_warp(scratch.sums[lane][i]);
}

// The largest cut such that the tokens ranked in [cut, high) measure `wanted` or more together.
// measure(logit): of one token. REQUIRES: those in [low, high) do; wanted > 0.
template <class Measure>
__device__ uint64_t find_cut(Row row, uint64_t low, uint64_t high, uint64_t wanted, Measure measure,
                             Scratch& scratch) {
  uint64_t count;
  do {
    const uint64_t piece = (high - low + kWays - 1) / kWays;
    // From the beginning of each piece up to `high`: measures, then numbers of tokens.
    uint64_t sums[2 * kWays] = {};
    row.for_each([&](uint64_t rank, float logit) {
      if (rank < low || rank >= high) return;
      const uint64_t value = measure(logit);
#pragma unroll
      for (int i = 0; i < kWays; ++i)
        if (rank - low >= i * piece) {
          sums[i] += value;
          ++sums[kWays + i];
        }
    });
    sum_of_block(sums, scratch);
    uint64_t above = 0;
    uint64_t next_low = low, next_high = high;
    count = 0;
    bool found = false;
#pragma unroll
    for (int i = kWays - 1; i >= 0; --i) {
      if (found) continue;
      if (sums[i] >= wanted) {
        found = true;
        next_low = low + i * piece;
        count = sums[kWays + i] - count;
      } else {
        above = sums[i];
        next_high = low + i * piece;
        count = sums[kWays + i];
      }
    }
    low = next_low;
    high = min(next_high, high);
    wanted -= above;
  } while (count > kFew);

  if (threadIdx.x == 0) scratch.cut = scratch.few = 0;
  __syncthreads();
  row.for_each([&](uint64_t rank, float logit) {
    if (rank < low || rank >= high) return;
    const int place = atomicAdd(&scratch.few, 1);
    scratch.ranks[place] = rank;
    scratch.measures[place] = measure(logit);
  });
  __syncthreads();
  const int few = scratch.few;
  if (threadIdx.x < few) {
    const uint64_t own = scratch.ranks[threadIdx.x];
    uint64_t reached = 0;
    for (int i = 0; i < few; ++i)
      if (scratch.ranks[i] >= own) reached += scratch.measures[i];
    if (reached >= wanted)
      atomicMax(reinterpret_cast<unsigned long long*>(&scratch.cut),
                static_cast<unsigned long long>(own));
  }
  __syncthreads();
  return scratch.cut;
}

// The token at which the running sum of the kept weights passes `random`, -1 when there is no
// weight; in one thread, -1 in the others.
template <class Weight>
__device__ int draw(Row row, uint64_t random, Weight weight_of_id, Scratch& scratch) {
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  // A warp sums a piece of the row, then the block shares the piece in which the point lies.
  const int piece = (row.vocabulary + kWarps - 1) / kWarps;
  uint64_t sum = 0;
  for (int i = lane; i < piece; i += kWarpSize) sum += weight_of_id(warp * piece + i);
  sum = sum_of_warp(sum);
  __syncthreads();
  if (lane == 0) scratch.sums[warp][0] = sum;
  __syncthreads();
  uint64_t total = 0;
  for (int w = 0; w < kWarps; ++w) total += scratch.sums[w][0];
  if (total == 0) return -1;
  uint64_t point = point_of(random, total);
  int chosen = 0;
  for (; point >= scratch.sums[chosen][0]; ++chosen) point -= scratch.sums[chosen][0];

  const int part = (piece + kThreads - 1) / kThreads;
  const int first = chosen * piece + static_cast<int>(threadIdx.x) * part;
  const int last = min(first + part, (chosen + 1) * piece);
  uint64_t own = 0;
  for (int id = first; id < last; ++id) own += weight_of_id(id);
  uint64_t before = own;
  for (int offset = 1; offset < kWarpSize; offset *= 2) {
    const uint64_t other = __shfl_up_sync(0xffffffffu, before, offset);
    if (lane >= offset) before += other;
  }
  if (lane == kWarpSize - 1) scratch.sums[warp][1] = before;
  before -= own;
  __syncthreads();
  for (int w = 0; w < warp; ++w) before += scratch.sums[w][1];
  if (point < before || point - before >= own) return -1;
  point -= before;
  int id = first;
  for (uint64_t weight; point >= (weight = weight_of_id(id)); ++id) point -= weight;
  return id;
}

__global__ void __launch_bounds__(kThreads)
    sample_logits_kernel(const float* logits, const LogitQuery* queries, LogitSummary* out,
                         int32_t* chosen, int vocabulary) {
  __shared__ Scratch scratch;
  __shared__ double temperature, top_p;
  __shared__ int64_t top_k;
  __shared__ uint64_t random;
  if (threadIdx.x == 0) {
    const LogitQuery* query = queries + blockIdx.x;
    temperature = query->temperature;
    top_p = query->top_p;
    top_k = query->top_k;
    random = query->random;
  }
  let_next_kernel_start();
  wait_for_previous_kernel();
  __syncthreads();
  if (temperature <= 0) return;
  const Row row{logits + static_cast<int64_t>(blockIdx.x) * vocabulary, vocabulary};
  const float largest = row.logits[chosen[blockIdx.x]];
  const TokenWeights weight_of(largest, temperature);
  // Tokens below have no weight.
  uint64_t cut = uint64_t{order_key(weightless_below(largest, temperature))} << 32;
  const uint64_t high = (uint64_t{order_key(largest)} + 1) << 32;
  if (top_k > 0 || top_p < 1) {
    uint64_t sums[1] = {};
    if (top_k > 0) {
      row.for_each([&](uint64_t rank, float) { sums[0] += rank >= cut && rank < high; });
      sum_of_block(sums, scratch);
      if (sums[0] > static_cast<uint64_t>(top_k))
        cut = find_cut(
            row, cut, high, static_cast<uint64_t>(top_k), [](float) { return uint64_t{1}; },
            scratch);
    }
    if (top_p < 1) {
      sums[0] = 0;
      row.for_each([&](uint64_t rank, float logit) {
        if (rank >= cut) sums[0] += weight_of(logit);
      });
      sum_of_block(sums, scratch);
      if (sums[0] > 0)
        cut = find_cut(row, cut, high, nucleus_weight(sums[0], top_p), weight_of, scratch);
    }
  }
  const int id = draw(
      row, random,
      [&](int i) {
        if (i >= vocabulary) return uint64_t{0};
        const float logit = row.logits[i];
        return rank_of(logit, i) >= cut ? weight_of(logit) : 0;
      },
      scratch);
  if (id < 0) return;
  out[blockIdx.x].chosen = chosen[blockIdx.x] = id;
  out[blockIdx.x].chosen_logit = row.logits[id];
}

}  // namespace

void sample_logits(const float* logits, const LogitQuery* queries, LogitSummary* out,
                   int32_t* chosen, int64_t rows, int64_t vocabulary, cudaStream_t stream) {
  if (rows == 0) return;
  launch(sample_logits_kernel, static_cast<unsigned>(rows), kThreads, 0, stream, logits, queries,
         out, chosen, static_cast<int>(vocabulary));
}

}  // namespace narrow::ops::cuda
