// AVX-512 matrix kernel for float sums; the rest is AVX2's. Compiled with -mavx512f -mavx512bw
// -mavx512vl: includes nothing but intrinsics. Sums run in the order of the contract (kernels.h),
// so the results are AVX2's, bit for bit. That is why the bf16 dot product (AVX512_BF16) is not
// used: it adds pairs of products with a rounding of its own.
#include <immintrin.h>

#include "ops/cpu/decode_avx512.h"
#include "ops/cpu/kernels.h"

namespace narrow::ops::cpu {
namespace {

// Fourteen sums, two decoded weights and broadcasts from memory: enough chains in flight to hide
// the four cycles of a multiply-add on two ports.
constexpr int kTileRows = 14;
// 256 · 16 floats are half of a 32 KiB first-level cache.
constexpr int64_t kBlockInputs = 256;

// The sums of some rows by sixteen outputs; a recursive member rather than an array, which the
// compiler would spill.
template <int rows>
struct Tile {
  __m512 sum;  // this row
  Tile<rows - 1> rest;

  void clear() {
    sum = _mm512_setzero_ps();
    rest.clear();
  }
  void load(const float* acc) {
    sum = _mm512_loadu_ps(acc);
    rest.load(acc + 16);
  }
  void store(float* acc) const {
    _mm512_storeu_ps(acc, sum);
    rest.store(acc + 16);
  }
  void add(const float* x, int64_t x_stride, __m512 w) {
    sum = _mm512_fmadd_ps(_mm512_set1_ps(*x), w, sum);
    rest.add(x + x_stride, x_stride, w);
  }
};

template <>
struct Tile<0> {
  void clear() {}
  void load(const float*) {}
  void store(float*) const {}
  void add(const float*, int64_t, __m512) {}
};

// Few rows: weights go from memory to the multiply without a stop.
template <PanelKind kind, int rows>
void multiply_few(const Panel& panel, const float* x, int64_t x_stride, float* acc) {
  Tile<rows> sums;
  sums.clear();
  for_each_group<kind>(panel, 0, panel.inputs,
                       [&](const Decoder<kind>& decoder, int64_t begin, int64_t end) {
                         Tile<rows> local = sums;
                         for (int64_t k = begin; k < end; ++k)
                           local.add(x + k, x_stride, decoder.at(k));
                         sums = local;
                       });
  sums.store(acc);
}

// acc += x · w for one tile of rows over `count` decoded inputs.
template <int rows>
void multiply_tile(const float* w, int64_t count, const float* x, int64_t x_stride, float* acc) {
  Tile<rows> sums;
  sums.load(acc);
  for (int64_t k = 0; k < count; ++k) sums.add(x + k, x_stride, _mm512_loadu_ps(w + k * 16));
  sums.store(acc);
}

// The last rows in tiles of eight, four, two and one.
template <int rows>
void multiply_rest(const float* w, int64_t count, const float* x, int64_t x_stride, int64_t left,
                   float* acc) {
  if (left >= rows) {
    multiply_tile<rows>(w, count, x, x_stride, acc);
    x += rows * x_stride;
    acc += rows * 16;
    left -= rows;
  }
  if constexpr (rows > 1) multiply_rest<rows / 2>(w, count, x, x_stride, left, acc);
}

template <PanelKind kind>
void multiply_kind(const Panel& panel, const float* x, int64_t x_stride, int64_t rows, float* acc,
                   float* scratch) {
  switch (rows) {
    case 0:
      return;
    case 1:
      return multiply_few<kind, 1>(panel, x, x_stride, acc);
    case 2:
      return multiply_few<kind, 2>(panel, x, x_stride, acc);
    case 3:
      return multiply_few<kind, 3>(panel, x, x_stride, acc);
    case 4:
      return multiply_few<kind, 4>(panel, x, x_stride, acc);
    default:
      break;
  }
  for (int64_t r = 0; r < rows; ++r) _mm512_storeu_ps(acc + r * 16, _mm512_setzero_ps());
  for (int64_t begin = 0; begin < panel.inputs; begin += kBlockInputs) {
    const int64_t end = begin + kBlockInputs < panel.inputs ? begin + kBlockInputs : panel.inputs;
    for_each_group<kind>(panel, begin, end,
                         [&](const Decoder<kind>& decoder, int64_t from, int64_t to) {
                           for (int64_t k = from; k < to; ++k)
                             _mm512_storeu_ps(scratch + (k - begin) * 16, decoder.at(k));
                         });
    int64_t r = 0;
    for (; r + kTileRows <= rows; r += kTileRows)
      multiply_tile<kTileRows>(scratch, end - begin, x + r * x_stride + begin, x_stride,
                               acc + r * 16);
    multiply_rest<8>(scratch, end - begin, x + r * x_stride + begin, x_stride, rows - r,
                     acc + r * 16);
  }
}

void multiply(const Panel& panel, const float* x, int64_t x_stride, int64_t rows, float* acc,
              float* scratch) {
  switch (panel.kind) {
    case PanelKind::f32:
      return multiply_kind<PanelKind::f32>(panel, x, x_stride, rows, acc, scratch);
    case PanelKind::bf16:
      return multiply_kind<PanelKind::bf16>(panel, x, x_stride, rows, acc, scratch);
    case PanelKind::fp8:
      return multiply_kind<PanelKind::fp8>(panel, x, x_stride, rows, acc, scratch);
    case PanelKind::int8:
      return multiply_kind<PanelKind::int8>(panel, x, x_stride, rows, acc, scratch);
    case PanelKind::int4:
      return multiply_kind<PanelKind::int4>(panel, x, x_stride, rows, acc, scratch);
  }
}

Kernels kernels() {
  Kernels result = *avx2_kernels();
  result.name = "AVX-512";
  result.multiply = multiply;
  return result;
}

}  // namespace

const Kernels* avx512_kernels() {
  static const Kernels result = kernels();
  return &result;
}

}  // namespace narrow::ops::cpu
