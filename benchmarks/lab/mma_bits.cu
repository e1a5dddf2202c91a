// Whether mma.sync and wgmma give the same bits on this device, for chains of products over k: with
// the inputs of a step in their own places, and with the sixteen inputs of a step dealt to the
// lanes in another order. Where both hold, kernels for one row and kernels for thousands may use
// either instruction and agree bitwise (docs/performance/products.md).
//
//   mma_bits
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "base/error.h"
#include "ops/cuda/device.cuh"
#include "ops/cuda/error.h"
#include "ops/cuda/hopper.cuh"

namespace {

using namespace narrow::ops::cuda;

constexpr int kRows = 64, kColumns = 64, kDepth = 1024, kAtoms = kDepth / 64;

// Rows of 64 elements in the 128-byte swizzle.
__device__ void fill(uint8_t* to, const __nv_bfloat16* from, int atom, int rows) {
  for (int i = threadIdx.x; i < rows * 8; i += blockDim.x) {
    const int row = i / 8, unit = i % 8;
    *reinterpret_cast<uint4*>(to + row * 128 + ((unit ^ (row % 8)) * 16)) =
        *reinterpret_cast<const uint4*>(from + row * kDepth + atom * 64 + unit * 8);
  }
}

__global__ void by_wgmma(const __nv_bfloat16* a, const __nv_bfloat16* b, float* d) {
  __shared__ alignas(1024) uint8_t tile_a[kRows * 128], tile_b[kColumns * 128];
  float sums[kColumns / 2];
  for (int atom = 0; atom < kAtoms; ++atom) {
    fill(tile_a, a, atom, kRows);
    fill(tile_b, b, atom, kColumns);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    wgmma_fence();
    for (int k = 0; k < 4; ++k)
      wgmma<MmaType::bf16, kColumns>(sums, tile_descriptor(tile_a) + 2 * k,
                                     tile_descriptor(tile_b) + 2 * k, atom > 0 || k > 0);
    wgmma_commit();
    wgmma_wait<0>();
    for (float& sum : sums) keep(sum);
    __syncthreads();
  }
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  for (int i = 0; i < kColumns / 2; ++i)
    d[(16 * warp + g + 8 * (i % 4 / 2)) * kColumns + 8 * (i / 4) + 2 * t + i % 2] = sums[i];
}

// kDealt: lane t has inputs 4t … 4t + 3 of a step instead of 2t, 2t + 1, 2t + 8, 2t + 9. kDeeper:
// the two steps of 32 inputs take 8t … 8t + 3 and 8t + 4 … 8t + 7.
template <bool kDealt, bool kDeeper>
__global__ void by_mma(const __nv_bfloat16* a, const __nv_bfloat16* b, float* d) {
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  for (int j = 0; j < kColumns / 8; ++j) {
    float sums[4] = {};
    for (int k = 0; k < kDepth; k += 16) {
      int low = k + 2 * t, high = k + 2 * t + 8;
      if (kDealt) low = k + 4 * t, high = k + 4 * t + 2;
      if (kDeeper) low = k / 32 * 32 + 8 * t + k % 32 / 4, high = low + 2;
      const auto pair = [&](const __nv_bfloat16* m, int row, int at) {
        return *reinterpret_cast<const uint32_t*>(m + row * kDepth + at);
      };
      const int row = 16 * warp + g, column = 8 * j + g;
      mma_bf16(sums, pair(a, row, low), pair(a, row + 8, low), pair(a, row, high),
               pair(a, row + 8, high), pair(b, column, low), pair(b, column, high));
    }
    for (int i = 0; i < 4; ++i)
      d[(16 * warp + g + 8 * (i / 2)) * kColumns + 8 * j + 2 * t + i % 2] = sums[i];
  }
}

int differing(const std::vector<float>& x, const std::vector<float>& y) {
  int count = 0;
  for (size_t i = 0; i < x.size(); ++i) count += std::memcmp(&x[i], &y[i], 4) != 0;
  return count;
}

}  // namespace

int main() try {
  std::mt19937 engine(3);
  std::normal_distribution<float> normal;
  std::vector<__nv_bfloat16> a(kRows * kDepth), b(kColumns * kDepth);
  for (auto& value : a) value = __float2bfloat16_rn(normal(engine) * std::exp2(normal(engine)));
  for (auto& value : b) value = __float2bfloat16_rn(normal(engine));
  void *da, *db, *dd;
  check(cudaMalloc(&da, a.size() * 2), "memory");
  check(cudaMalloc(&db, b.size() * 2), "memory");
  check(cudaMalloc(&dd, kRows * kColumns * 4), "memory");
  check(cudaMemcpy(da, a.data(), a.size() * 2, cudaMemcpyHostToDevice), "copy");
  check(cudaMemcpy(db, b.data(), b.size() * 2, cudaMemcpyHostToDevice), "copy");
  const auto run = [&](auto kernel) {
    kernel<<<1, 128>>>(static_cast<const __nv_bfloat16*>(da), static_cast<const __nv_bfloat16*>(db),
                       static_cast<float*>(dd));
    check(cudaDeviceSynchronize(), "a kernel");
    std::vector<float> d(kRows * kColumns);
    check(cudaMemcpy(d.data(), dd, d.size() * 4, cudaMemcpyDeviceToHost), "copy");
    return d;
  };
  const auto expected = run(by_wgmma);
  std::printf("of %d sums of %d products, bits that differ from wgmma's:\n", kRows * kColumns,
              kDepth);
  std::printf("  mma.sync, inputs in their places  %d\n",
              differing(run(by_mma<false, false>), expected));
  std::printf("  mma.sync, dealt within a step     %d\n",
              differing(run(by_mma<true, false>), expected));
  std::printf("  mma.sync, other inputs in a step  %d\n",
              differing(run(by_mma<false, true>), expected));
  return 0;
} catch (const narrow::Error& error) {
  std::fprintf(stderr, "mma_bits: %s\n", error.what());
  return error.exit_status();
}
