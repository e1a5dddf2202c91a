// Products of bf16 pairs on AVX512_BF16; the rest is kernels_avx512_vnni.cc's. Compiled with
// -mavx512bf16 and AVX-512: includes nothing but intrinsics.
#include <immintrin.h>

#include "ops/cpu/decode_avx512.h"
#include "ops/cpu/kernels.h"

namespace narrow::ops::cpu {
namespace {

constexpr int kMostRows = 14;

template <int rows>
struct Tile {
  __m512 sum;
  Tile<rows - 1> rest;

  void clear() {
    sum = _mm512_setzero_ps();
    rest.clear();
  }
  void store(float* acc) const {
    _mm512_storeu_ps(acc, sum);
    rest.store(acc + 16);
  }
  void add(const uint16_t* x, int64_t x_stride, __m512i w) {
    int32_t pair;
    __builtin_memcpy(&pair, x, sizeof(pair));
    sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair)),
                           reinterpret_cast<__m512bh>(w));
    rest.add(x + x_stride, x_stride, w);
  }
};

template <>
struct Tile<0> {
  void clear() {}
  void store(float*) const {}
  void add(const uint16_t*, int64_t, __m512i) {}
};

template <int rows>
void multiply_tile(const __m512i* pairs, int64_t count, const uint16_t* x, int64_t x_stride,
                   float* acc) {
  Tile<rows> sums;
  sums.clear();
  for (int64_t p = 0; p < count; ++p) sums.add(x + 2 * p, x_stride, _mm512_load_si512(pairs + p));
  sums.store(acc);
}

// The last rows in tiles of eight, four, two and one.
template <int rows>
void multiply_rest(const __m512i* pairs, int64_t count, const uint16_t* x, int64_t x_stride,
                   int64_t left, float* acc) {
  if (left >= rows) {
    multiply_tile<rows>(pairs, count, x, x_stride, acc);
    x += rows * x_stride;
    acc += rows * 16;
    left -= rows;
  }
  if constexpr (rows > 1) multiply_rest<rows / 2>(pairs, count, x, x_stride, left, acc);
}

void multiply_bf16(const Panel& panel, const uint16_t* x, int64_t x_stride, int64_t rows,
                   float* acc, void* scratch) {
  auto* pairs = static_cast<__m512i*>(scratch);
  decode_pairs(panel, pairs);
  const int64_t count = (panel.inputs + 1) / 2;
  int64_t r = 0;
  for (; r + kMostRows <= rows; r += kMostRows)
    multiply_tile<kMostRows>(pairs, count, x + r * x_stride, x_stride, acc + r * 16);
  multiply_rest<8>(pairs, count, x + r * x_stride, x_stride, rows - r, acc + r * 16);
}

Kernels kernels() {
  Kernels result = *avx512_vnni_kernels();
  result.name = "AVX-512 BF16";
  result.multiply_bf16 = multiply_bf16;
  return result;
}

}  // namespace

const Kernels* avx512_bf16_kernels() {
  static const Kernels result = kernels();
  return &result;
}

}  // namespace narrow::ops::cpu
