// The exact integer product on AVX-512 VNNI; the rest is kernels_avx512.cc's. Compiled with
// -mavx512f -mavx512bw -mavx512vnni: includes nothing but intrinsics.
#include <immintrin.h>

#include "ops/cpu/kernels.h"

namespace narrow::ops::cpu {
namespace {

constexpr int kTileRows = 14;

// The weights of a pair of inputs for sixteen outputs, widened.
inline __m512i weights_at(const int8_t* weights, int64_t pair) {
  return _mm512_cvtepi8_epi16(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + pair * 32)));
}

template <int rows>
struct Tile {
  __m512i sum;
  Tile<rows - 1> rest;

  void clear() {
    sum = _mm512_setzero_si512();
    rest.clear();
  }
  void store(int32_t* acc) const {
    _mm512_storeu_si512(acc, sum);
    rest.store(acc + 16);
  }
  void add(const int16_t* x, int64_t x_stride, __m512i w) {
    int32_t pair;
    __builtin_memcpy(&pair, x, sizeof(pair));
    sum = _mm512_dpwssd_epi32(sum, _mm512_set1_epi32(pair), w);
    rest.add(x + x_stride, x_stride, w);
  }
};

template <>
struct Tile<0> {
  void clear() {}
  void store(int32_t*) const {}
  void add(const int16_t*, int64_t, __m512i) {}
};

template <int rows>
void multiply_tile(const int8_t* weights, int64_t pairs, const int16_t* x, int64_t x_stride,
                   int32_t* acc) {
  Tile<rows> sums;
  sums.clear();
  for (int64_t p = 0; p < pairs; ++p) sums.add(x + 2 * p, x_stride, weights_at(weights, p));
  sums.store(acc);
}

// The last rows in tiles of eight, four, two and one.
template <int rows>
void multiply_rest(const int8_t* weights, int64_t pairs, const int16_t* x, int64_t x_stride,
                   int64_t left, int32_t* acc) {
  if (left >= rows) {
    multiply_tile<rows>(weights, pairs, x, x_stride, acc);
    x += rows * x_stride;
    acc += rows * 16;
    left -= rows;
  }
  if constexpr (rows > 1) multiply_rest<rows / 2>(weights, pairs, x, x_stride, left, acc);
}

void multiply_int8(const int8_t* weights, int64_t inputs, const int16_t* x, int64_t x_stride,
                   int64_t rows, int32_t* acc, int16_t*) {
  const int64_t pairs = (inputs + 1) / 2;
  int64_t r = 0;
  for (; r + kTileRows <= rows; r += kTileRows)
    multiply_tile<kTileRows>(weights, pairs, x + r * x_stride, x_stride, acc + r * 16);
  multiply_rest<8>(weights, pairs, x + r * x_stride, x_stride, rows - r, acc + r * 16);
}

Kernels kernels() {
  Kernels result = *avx512_kernels();
  result.name = "AVX-512 VNNI";
  result.multiply_int8 = multiply_int8;
  return result;
}

}  // namespace

const Kernels* avx512_vnni_kernels() {
  static const Kernels result = kernels();
  return &result;
}

}  // namespace narrow::ops::cpu
