// What a word of 4-bit weights, sixteen inputs of sixteen outputs of a warp, takes of a scheduler
// when one row is multiplied, and which of its operations: the bound of the 4-bit step of one row
// (docs/performance/one_row.md). One block on each processor, whose warps do the same over and over
// with what lies in registers or shared memory; clocks of the first block.
//
//   int4_words
#include <cstdint>
#include <cstdio>

#include "base/error.h"
#include "device_timing.h"
#include "ops/cuda/capability.h"
#include "ops/cuda/device.cuh"
#include "ops/cuda/int4.cuh"

namespace {

using namespace narrow::ops::cuda;

constexpr int kMostThreads = 768, kRounds = 2000, kWords = 8;  // of a round
constexpr int kUnits = 12000;                                  // of sixteen bytes, in shared memory
constexpr int kXUnits = 8192, kPlaces = 128;                   // where x begins; places of either

enum class Work {
  products,           // mma, each adding to the sum of the one before
  masks,              // five a word
  multiplications,    // four a word
  masks_products,     // these together
  all_apart,          // and these, none waiting for another
  words,              // as the kernel has them: from shared memory, x by a plain load
  words_of_matrices,  // x by ldmatrix, beside rows of zeros
  words_of_four,      // x by the four lanes that have an asked column
  words_of_two,       // two chains of sums
};

__device__ inline void mask(uint32_t& bits, uint32_t with, uint32_t other) {
  asm volatile("lop3.b32 %0, %0, %1, %2, 0x96;" : "+r"(bits) : "r"(with), "r"(other));
}
__device__ inline void scale(uint32_t& pair, uint32_t factor) {
  asm volatile("fma.rn.bf16x2 %0, %0, %1, %2;" : "+r"(pair) : "r"(factor), "r"(0x80008000u));
}

template <Work kWork>
__global__ void __launch_bounds__(kMostThreads, 1)
    work_on_words(uint32_t seed, uint32_t* out, int64_t* cycles) {
  extern __shared__ uint4 units[];
  for (uint32_t i = threadIdx.x; i < kUnits; i += blockDim.x)
    units[i] = make_uint4(i * seed, i * 77u * seed, i ^ seed, seed + i);
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  uint32_t bits[8], other[8];
  for (uint32_t i = 0; i < 8; ++i) {
    bits[i] = seed * (i + 1 + threadIdx.x);
    other[i] = (seed * i) & 0x000f000f;
  }
  const Int4Group<false> group(0x7a007b00 + seed % 7, 0);
  float sums[2][4] = {};
  const int64_t begin = clock64();
#pragma unroll 1
  for (int round = 0; round < kRounds; ++round) {
    if constexpr (kWork < Work::words) {
#pragma unroll
      for (int i = 0; i < kWords; ++i) {
        if (kWork != Work::products && kWork != Work::multiplications)
#pragma unroll
          for (int j = 0; j < 5; ++j) mask(other[j], bits[i % 4], 0x7a007a00);
        if (kWork == Work::multiplications || kWork == Work::all_apart)
#pragma unroll
          for (int j = 0; j < 4; ++j) scale(bits[j], 0x7a007a00);
        if (kWork != Work::masks && kWork != Work::multiplications)
          mma_bf16(sums[0], bits[4], bits[5], bits[6], bits[7], bits[4], bits[5]);
      }
    } else {
      const int place = (round * 16 + warp) % kPlaces;
      const uint4* const weights = units + place * 64 + lane;
      const uint4* const x = units + kXUnits + place * 16;
      const uint4 low = weights[0], high = weights[kWarpSize];
      const uint32_t words[kWords] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int i = 0; i < kWords; i += 2) {
        uint4 b = make_uint4(bits[0], bits[1], bits[2], bits[3]);
        if (kWork == Work::words || kWork == Work::words_of_two) b = x[i * 2 + lane % 4];
        if (kWork == Work::words_of_matrices)
          b = load_matrices(lane % 8 == 0 ? x + i * 2 + lane / 8 : units);
        if (kWork == Work::words_of_four && lane < 4) b = x[i * 2 + lane];
        float(&second)[4] = sums[kWork == Work::words_of_two];
        uint32_t a[4];
        group.weights(words[i], a);
        mma_bf16(sums[0], a[0], a[1], a[2], a[3], b.x, b.y);
        group.weights(words[i + 1], a);
        mma_bf16(second, a[0], a[1], a[2], a[3], b.z, b.w);
      }
    }
  }
  const int64_t end = clock64();
  uint32_t seen = __float_as_uint(sums[0][0] + sums[0][1] + sums[1][0]);
  for (int i = 0; i < 8; ++i) seen ^= bits[i] ^ other[i];
  out[blockIdx.x * blockDim.x + threadIdx.x] = seen;
  if (threadIdx.x == 0 && blockIdx.x == 0) *cycles = end - begin;
}

template <Work kWork>
void measure(const char* what, int threads) {
  const DeviceMemory out(static_cast<size_t>(processors()) * kMostThreads * 4);
  const DeviceMemory cycles(sizeof(int64_t));
  constexpr size_t kShared = kUnits * sizeof(uint4);
  check(cudaFuncSetAttribute(work_on_words<kWork>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(kShared)),
        "shared memory");
  int64_t elapsed = 0;
  for (int run = 0; run < 3; ++run) {
    work_on_words<kWork>
        <<<static_cast<unsigned>(processors()), static_cast<unsigned>(threads), kShared>>>(
            12345, out.as<uint32_t>(), cycles.as<int64_t>());
    check(cudaGetLastError(), "kernel launch");
    check(cudaMemcpy(&elapsed, cycles.as<int64_t>(), sizeof elapsed, cudaMemcpyDeviceToHost),
          "a kernel");
  }
  const double warps = threads / (4.0 * kWarpSize);  // of a scheduler
  std::printf("%-62s %d warps a scheduler: %5.2f cycles a word\n", what, threads / (4 * kWarpSize),
              static_cast<double>(elapsed) / (kRounds * kWords * warps));
}

}  // namespace

int main() try {
  measure<Work::products>("mma", 512);
  measure<Work::masks>("five masks", 512);
  measure<Work::multiplications>("four multiplications", 512);
  measure<Work::masks_products>("masks, mma", 512);
  measure<Work::all_apart>("masks, multiplications, mma, none waiting for another", 512);
  for (const int threads : {128, 256, 384, 512, 640, 768})
    measure<Work::words>("a word and x from shared memory, as in the kernel", threads);
  measure<Work::words_of_matrices>("x by ldmatrix", 512);
  measure<Work::words_of_four>("x by four lanes", 512);
  measure<Work::words_of_two>("two chains of sums", 512);
  return 0;
} catch (const narrow::Error& error) {
  std::fprintf(stderr, "int4_words: %s\n", error.what());
  return 1;
}
