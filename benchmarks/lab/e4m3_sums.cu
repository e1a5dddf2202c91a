// What is lost of sums of e4m3 products in the tensor cores, by how many inputs are summed there
// before the sum is added to others in float32: the error of an output against the exact sum, in
// parts of the outputs' root mean square, and by how much outputs are too small (the tensor cores
// cut off, they do not round). Beside it what rounding the exact sums to bf16 costs, and what e4m3
// itself cost: the exact sum of codes against that of the numbers they stand for.
// gemm.cuh leaves whole sums to the tensor cores.
//
//   e4m3_sums
#include <cuda_fp8.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <random>
#include <vector>

#include "ops/cuda/device.cuh"
#include "ops/cuda/error.h"
#include "ops/cuda/hopper.cuh"

namespace {

using namespace narrow::ops::cuda;

constexpr int kRows = 64, kColumns = 64;

// Rows of 128 codes in the 128-byte swizzle.
__device__ void fill(uint8_t* to, const uint8_t* from, int64_t depth, int atom) {
  for (int i = threadIdx.x; i < 64 * 8; i += blockDim.x) {
    const int row = i / 8, unit = i % 8;
    *reinterpret_cast<uint4*>(to + row * 128 + (unit ^ (row % 8)) * 16) =
        *reinterpret_cast<const uint4*>(from + row * depth + atom * 128 + unit * 16);
  }
}

// d = a bᵀ, of which sums of `group` atoms are added in float32.
__global__ void multiply(const uint8_t* a, const uint8_t* b, int depth, int group, float* d) {
  __shared__ alignas(1024) uint8_t tile_a[kRows * 128], tile_b[kColumns * 128];
  float sums[kColumns / 2], totals[kColumns / 2] = {};
  const int atoms = depth / 128;
  for (int atom = 0; atom < atoms; ++atom) {
    fill(tile_a, a, depth, atom);
    fill(tile_b, b, depth, atom);
    publish_to_async();
    __syncthreads();
    wgmma_fence();
    for (int k = 0; k < 4; ++k)
      wgmma<MmaType::e4m3, kColumns>(sums, tile_descriptor(tile_a) + 2 * k,
                                     tile_descriptor(tile_b) + 2 * k, atom % group > 0 || k > 0);
    wgmma_commit();
    wgmma_wait<0>();
    for (float& sum : sums) keep(sum);
    if ((atom + 1) % group == 0 || atom + 1 == atoms)
      for (int i = 0; i < kColumns / 2; ++i) totals[i] += sums[i];
    __syncthreads();
  }
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  for (int i = 0; i < kColumns / 2; ++i)
    d[(16 * warp + g + 8 * (i % 4 / 2)) * kColumns + 8 * (i / 4) + 2 * t + i % 2] = totals[i];
}

// Rows of numbers and their codes, each row scaled to the largest code, as the formats have it.
struct Rows {
  std::vector<float> numbers;
  std::vector<uint8_t> codes;
  std::vector<double> scale;
};
Rows make_rows(int depth, bool outliers, std::mt19937& engine) {
  std::normal_distribution<float> normal;
  Rows rows{std::vector<float>(64 * depth), std::vector<uint8_t>(64 * depth),
            std::vector<double>(64)};
  for (int row = 0; row < 64; ++row) {
    float largest = 0;
    for (int k = 0; k < depth; ++k) {
      float& number = rows.numbers[row * depth + k];
      // Some inputs of activations are tens of times as large as the others.
      number = normal(engine) * (outliers && k % 512 == 7 ? 30.0f : 1.0f);
      largest = std::max(largest, std::abs(number));
    }
    rows.scale[row] = largest / 448;
    for (int k = 0; k < depth; ++k)
      rows.codes[row * depth + k] =
          __nv_cvt_float_to_fp8(static_cast<float>(rows.numbers[row * depth + k] / rows.scale[row]),
                                __NV_SATFINITE, __NV_E4M3);
  }
  return rows;
}

double value_of(uint8_t code) {
  return static_cast<double>(__half2float(__half(__nv_cvt_fp8_to_halfraw(code, __NV_E4M3))));
}

// Of `got` against `exact`: error and shrinkage.
struct Loss {
  double error, shrinkage;
};
template <class Got>
Loss loss_of(const std::vector<Got>& got, const std::vector<double>& exact) {
  double squares = 0, errors = 0, products = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    squares += exact[i] * exact[i];
    errors += (got[i] - exact[i]) * (got[i] - exact[i]);
    products += got[i] * exact[i];
  }
  return {std::sqrt(errors / squares), 1 - products / squares};
}

void measure(int depth, bool outliers) {
  std::mt19937 engine(7);
  const Rows a = make_rows(depth, outliers, engine), b = make_rows(depth, false, engine);
  std::vector<double> of_codes(kRows * kColumns), of_numbers(kRows * kColumns);
  std::vector<float> rounded(kRows * kColumns);
  for (int r = 0; r < kRows; ++r)
    for (int c = 0; c < kColumns; ++c) {
      double codes = 0, numbers = 0;
      for (int k = 0; k < depth; ++k) {
        codes += value_of(a.codes[r * depth + k]) * value_of(b.codes[c * depth + k]);
        numbers += static_cast<double>(a.numbers[r * depth + k]) * b.numbers[c * depth + k];
      }
      of_codes[r * kColumns + c] = codes;
      of_numbers[r * kColumns + c] = numbers / a.scale[r] / b.scale[c];
      rounded[r * kColumns + c] = __bfloat162float(__double2bfloat16(codes));
    }
  std::printf("%d inputs%s: e4m3 itself %.2e, rounding to bf16 %.2e\n", depth,
              outliers ? ", one in 512 of x 30 times as large" : "",
              loss_of(of_codes, of_numbers).error, loss_of(rounded, of_codes).error);
  void *da, *db, *dd;
  check(cudaMalloc(&da, a.codes.size()), "memory");
  check(cudaMalloc(&db, b.codes.size()), "memory");
  check(cudaMalloc(&dd, kRows * kColumns * sizeof(float)), "memory");
  check(cudaMemcpy(da, a.codes.data(), a.codes.size(), cudaMemcpyHostToDevice), "copy");
  check(cudaMemcpy(db, b.codes.data(), b.codes.size(), cudaMemcpyHostToDevice), "copy");
  for (const int group : {1, 2, 4, 8, 16, depth / 128}) {
    multiply<<<1, kWarpgroup>>>(static_cast<const uint8_t*>(da), static_cast<const uint8_t*>(db),
                                depth, group, static_cast<float*>(dd));
    check(cudaDeviceSynchronize(), "a kernel");
    std::vector<float> d(kRows * kColumns);
    check(cudaMemcpy(d.data(), dd, d.size() * sizeof(float), cudaMemcpyDeviceToHost), "copy");
    const Loss loss = loss_of(d, of_codes);
    std::printf("  sums of %5d: error %.2e, too small by %.2e\n", group * 128, loss.error,
                loss.shrinkage);
  }
  check(cudaFree(da), "memory");
  check(cudaFree(db), "memory");
  check(cudaFree(dd), "memory");
}

}  // namespace

int main() try {
  for (const bool outliers : {false, true})
    for (const int depth : {4096, 14336}) measure(depth, outliers);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "e4m3_sums: %s\n", error.what());
  return 1;
}
