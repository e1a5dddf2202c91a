// AVX2 + FMA kernels. Compiled with -mavx2 -mfma -mf16c: includes nothing but intrinsics.
#include <immintrin.h>

#include <cmath>

#include "ops/cpu/kernels.h"

namespace narrow::ops::cpu {
namespace {

// Six rows by sixteen outputs: twelve accumulators, two weights and one broadcast fill the sixteen
// vector registers.
constexpr int kTileRows = 6;
// Inputs decoded at a time: 256 · 16 floats are half of a 32 KiB first-level cache.
constexpr int64_t kBlockInputs = 256;

struct Pair {
  __m256 low, high;  // outputs 0-7 and 8-15
};

inline __m256 from_bf16(__m128i bits) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

// e4m3 into float: sign and the 7 low bits move to the top of a float, whose exponent then is 120
// too small. Exact, subnormals included.
inline __m256 from_fp8(__m128i bytes) {
  const __m256i wide = _mm256_slli_epi32(_mm256_cvtepu8_epi32(bytes), 24);
  const __m256i bits =
      _mm256_and_si256(_mm256_srai_epi32(wide, 4), _mm256_set1_epi32(static_cast<int>(0x87f00000)));
  return _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0x1p120f));
}

template <PanelKind kind>
struct Decoder;

template <>
struct Decoder<PanelKind::f32> {
  explicit Decoder(const Panel& panel) : data(static_cast<const float*>(panel.weights)) {}
  void group(int64_t) {}
  Pair at(int64_t k) const {
    return {_mm256_loadu_ps(data + k * 16), _mm256_loadu_ps(data + k * 16 + 8)};
  }
  const float* data;
};

template <>
struct Decoder<PanelKind::bf16> {
  explicit Decoder(const Panel& panel) : data(static_cast<const uint16_t*>(panel.weights)) {}
  void group(int64_t) {}
  Pair at(int64_t k) const {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + k * 16));
    return {from_bf16(_mm256_castsi256_si128(bits)), from_bf16(_mm256_extracti128_si256(bits, 1))};
  }
  const uint16_t* data;
};

template <>
struct Decoder<PanelKind::fp8> {
  explicit Decoder(const Panel& panel) : data(static_cast<const uint8_t*>(panel.weights)) {}
  void group(int64_t) {}
  Pair at(int64_t k) const {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + k * 16));
    return {from_fp8(bytes), from_fp8(_mm_srli_si128(bytes, 8))};
  }
  const uint8_t* data;
};

// Integer codes: value = code · scale + offset, one rounding (none for bf16 scales).
struct Grouped {
  explicit Grouped(const Panel& panel) : scales(panel.scale), offsets(panel.offset) {}
  void group(int64_t g) {
    scale = {_mm256_loadu_ps(scales + g * 16), _mm256_loadu_ps(scales + g * 16 + 8)};
    offset = {_mm256_loadu_ps(offsets + g * 16), _mm256_loadu_ps(offsets + g * 16 + 8)};
  }
  Pair value(__m256i low, __m256i high) const {
    return {_mm256_fmadd_ps(_mm256_cvtepi32_ps(low), scale.low, offset.low),
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(high), scale.high, offset.high)};
  }
  const float *scales, *offsets;
  Pair scale = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  Pair offset = scale;
};

template <>
struct Decoder<PanelKind::int8> : Grouped {
  explicit Decoder(const Panel& panel)
      : Grouped(panel), data(static_cast<const int8_t*>(panel.weights)) {}
  Pair at(int64_t k) const {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + k * 16));
    return value(_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)));
  }
  const int8_t* data;
};

template <>
struct Decoder<PanelKind::int4> : Grouped {
  explicit Decoder(const Panel& panel)
      : Grouped(panel), data(static_cast<const uint8_t*>(panel.weights)) {}
  Pair at(int64_t k) const {
    const __m256i bytes =
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(data + k * 8)));
    return value(_mm256_and_si256(bytes, _mm256_set1_epi32(15)), _mm256_srli_epi32(bytes, 4));
  }
  const uint8_t* data;
};

// Calls body(decoder, begin, end) for runs of inputs that share a scale group.
template <PanelKind kind, class Body>
inline void for_each_group(const Panel& panel, int64_t begin, int64_t end, Body body) {
  Decoder<kind> decoder(panel);
  while (begin < end) {
    const int64_t g = begin / panel.group;
    const int64_t stop = (g + 1) * panel.group < end ? (g + 1) * panel.group : end;
    decoder.group(g);
    body(decoder, begin, stop);
    begin = stop;
  }
}

// The sums of some rows by sixteen outputs, one member a row rather than an array: the compiler
// then keeps all of them in registers.
template <int rows>
struct Tile {
  __m256 low, high;  // this row
  Tile<rows - 1> rest;

  void clear() {
    low = high = _mm256_setzero_ps();
    rest.clear();
  }
  void load(const float* acc) {
    low = _mm256_loadu_ps(acc);
    high = _mm256_loadu_ps(acc + 8);
    rest.load(acc + 16);
  }
  void store(float* acc) const {
    _mm256_storeu_ps(acc, low);
    _mm256_storeu_ps(acc + 8, high);
    rest.store(acc + 16);
  }
  void add(const float* x, int64_t x_stride, __m256 w_low, __m256 w_high) {
    const __m256 value = _mm256_broadcast_ss(x);
    low = _mm256_fmadd_ps(value, w_low, low);
    high = _mm256_fmadd_ps(value, w_high, high);
    rest.add(x + x_stride, x_stride, w_low, w_high);
  }
};

template <>
struct Tile<0> {
  void clear() {}
  void load(const float*) {}
  void store(float*) const {}
  void add(const float*, int64_t, __m256, __m256) {}
};

// Few rows: weights go from memory to the multiply without a stop.
template <PanelKind kind, int rows>
void multiply_few(const Panel& panel, const float* x, int64_t x_stride, float* acc) {
  Tile<rows> sums;
  sums.clear();
  for_each_group<kind>(panel, 0, panel.inputs,
                       [&](const Decoder<kind>& decoder, int64_t begin, int64_t end) {
                         Tile<rows> local = sums;
                         for (int64_t k = begin; k < end; ++k) {
                           const Pair w = decoder.at(k);
                           local.add(x + k, x_stride, w.low, w.high);
                         }
                         sums = local;
                       });
  sums.store(acc);
}

// acc += x · w for one tile of rows over `count` decoded inputs.
template <int rows>
void multiply_tile(const float* w, int64_t count, const float* x, int64_t x_stride, float* acc) {
  Tile<rows> sums;
  sums.load(acc);
  for (int64_t k = 0; k < count; ++k)
    sums.add(x + k, x_stride, _mm256_load_ps(w + k * 16), _mm256_load_ps(w + k * 16 + 8));
  sums.store(acc);
}

void multiply_tiles(const float* w, int64_t count, const float* x, int64_t x_stride, int64_t rows,
                    float* acc) {
  int64_t r = 0;
  for (; r + kTileRows <= rows; r += kTileRows)
    multiply_tile<kTileRows>(w, count, x + r * x_stride, x_stride, acc + r * 16);
  const float* rest = x + r * x_stride;
  switch (rows - r) {
    case 5:
      return multiply_tile<5>(w, count, rest, x_stride, acc + r * 16);
    case 4:
      return multiply_tile<4>(w, count, rest, x_stride, acc + r * 16);
    case 3:
      return multiply_tile<3>(w, count, rest, x_stride, acc + r * 16);
    case 2:
      return multiply_tile<2>(w, count, rest, x_stride, acc + r * 16);
    case 1:
      return multiply_tile<1>(w, count, rest, x_stride, acc + r * 16);
    default:
      return;
  }
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
  for (int64_t i = 0; i < rows * 16; i += 8) _mm256_storeu_ps(acc + i, _mm256_setzero_ps());
  for (int64_t begin = 0; begin < panel.inputs; begin += kBlockInputs) {
    const int64_t end = begin + kBlockInputs < panel.inputs ? begin + kBlockInputs : panel.inputs;
    for_each_group<kind>(panel, begin, end,
                         [&](const Decoder<kind>& decoder, int64_t from, int64_t to) {
                           for (int64_t k = from; k < to; ++k) {
                             const Pair w = decoder.at(k);
                             _mm256_store_ps(scratch + (k - begin) * 16, w.low);
                             _mm256_store_ps(scratch + (k - begin) * 16 + 8, w.high);
                           }
                         });
    multiply_tiles(scratch, end - begin, x + begin, x_stride, rows, acc);
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

inline int32_t load_pair(const int16_t* x) {
  int32_t pair;
  __builtin_memcpy(&pair, x, sizeof(pair));
  return pair;
}

// As Tile, over pairs of inputs: vpmaddwd adds two exact 32-bit products.
template <int rows>
struct IntegerTile {
  __m256i low, high;
  IntegerTile<rows - 1> rest;

  void clear() {
    low = high = _mm256_setzero_si256();
    rest.clear();
  }
  void store(int32_t* acc) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(acc), low);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(acc + 8), high);
    rest.store(acc + 16);
  }
  void add(const int16_t* x, int64_t x_stride, __m256i w_low, __m256i w_high) {
    const __m256i value = _mm256_set1_epi32(load_pair(x));
    low = _mm256_add_epi32(low, _mm256_madd_epi16(value, w_low));
    high = _mm256_add_epi32(high, _mm256_madd_epi16(value, w_high));
    rest.add(x + x_stride, x_stride, w_low, w_high);
  }
};

template <>
struct IntegerTile<0> {
  void clear() {}
  void store(int32_t*) const {}
  void add(const int16_t*, int64_t, __m256i, __m256i) {}
};

template <int rows>
void multiply_int8_tile(const int16_t* w, int64_t pairs, const int16_t* x, int64_t x_stride,
                        int32_t* acc) {
  IntegerTile<rows> sums;
  sums.clear();
  for (int64_t p = 0; p < pairs; ++p) {
    sums.add(x + 2 * p, x_stride, _mm256_load_si256(reinterpret_cast<const __m256i*>(w + p * 32)),
             _mm256_load_si256(reinterpret_cast<const __m256i*>(w + p * 32 + 16)));
  }
  sums.store(acc);
}

void multiply_int8(const int8_t* weights, int64_t inputs, const int16_t* x, int64_t x_stride,
                   int64_t rows, int32_t* acc, int16_t* scratch) {
  const int64_t pairs = (inputs + 1) / 2;
  const auto widened = [&](int64_t p, int half) {
    return _mm256_cvtepi8_epi16(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(weights + p * 32 + half * 16)));
  };
  if (rows == 1) {
    __m256i low = _mm256_setzero_si256(), high = low;
    for (int64_t p = 0; p < pairs; ++p) {
      const __m256i value = _mm256_set1_epi32(load_pair(x + 2 * p));
      low = _mm256_add_epi32(low, _mm256_madd_epi16(value, widened(p, 0)));
      high = _mm256_add_epi32(high, _mm256_madd_epi16(value, widened(p, 1)));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(acc), low);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(acc + 8), high);
    return;
  }
  for (int64_t p = 0; p < pairs; ++p) {
    for (int half = 0; half < 2; ++half)
      _mm256_store_si256(reinterpret_cast<__m256i*>(scratch + p * 32 + half * 16),
                         widened(p, half));
  }
  int64_t r = 0;
  for (; r + kTileRows <= rows; r += kTileRows)
    multiply_int8_tile<kTileRows>(scratch, pairs, x + r * x_stride, x_stride, acc + r * 16);
  for (; r < rows; ++r)
    multiply_int8_tile<1>(scratch, pairs, x + r * x_stride, x_stride, acc + r * 16);
}

// Round to nearest, ties to even, on the bits; the lanes hold finite numbers.
inline __m256 rounded_to_bf16(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  return _mm256_castsi256_ps(
      _mm256_and_si256(rounded, _mm256_set1_epi32(static_cast<int>(0xffff0000))));
}

// Lanes [0, count) of a partial vector.
inline __m256i tail_mask(int64_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane);
}

// Calls body(offset, mask, whole) for vectors of eight; the last may be partial.
template <class Body>
inline void for_each_vector(int64_t count, Body body) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) body(i, _mm256_set1_epi32(-1));
  if (i < count) body(i, tail_mask(count - i));
}

void round_to_bf16(const float* x, int64_t count, float* y) {
  for_each_vector(count, [&](int64_t i, __m256i mask) {
    _mm256_maskstore_ps(y + i, mask, rounded_to_bf16(_mm256_maskload_ps(x + i, mask)));
  });
}

inline float horizontal_sum(__m256 v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline float horizontal_max(__m256 v) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

float absolute_maximum(const float* x, int64_t count) {
  __m256 largest = _mm256_setzero_ps();
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  for_each_vector(count, [&](int64_t i, __m256i mask) {
    largest = _mm256_max_ps(largest, _mm256_and_ps(magnitude, _mm256_maskload_ps(x + i, mask)));
  });
  return horizontal_max(largest);
}

void quantize_int8(const float* x, int64_t count, float scale, int16_t* codes) {
  const __m256 divisor = _mm256_set1_ps(scale);
  for_each_vector(count, [&](int64_t i, __m256i mask) {
    const __m256 quotient = _mm256_div_ps(_mm256_maskload_ps(x + i, mask), divisor);
    const __m256 rounded = _mm256_round_ps(quotient, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256 clamped =
        _mm256_min_ps(_mm256_max_ps(rounded, _mm256_set1_ps(-128)), _mm256_set1_ps(127));
    alignas(32) int32_t wide[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(wide), _mm256_cvtps_epi32(clamped));
    for (int64_t j = 0; j < 8 && i + j < count; ++j) codes[i + j] = static_cast<int16_t>(wide[j]);
  });
}

// Rounds to e4m3 without leaving float: from 2^-6 on, to nearest even at the third bit of the
// fraction; below, to a multiple of 2^-9, by adding and taking away a number whose last bit that
// is.
void quantize_fp8(const float* x, int64_t count, float scale, float* values) {
  const __m256 divisor = _mm256_set1_ps(scale);
  const __m256 sign_bit = _mm256_set1_ps(-0.0f);
  const __m256 shift = _mm256_set1_ps(0x1.8p14f);
  for_each_vector(count, [&](int64_t i, __m256i mask) {
    const __m256 quotient = _mm256_div_ps(_mm256_maskload_ps(x + i, mask), divisor);
    const __m256 magnitude = _mm256_andnot_ps(sign_bit, quotient);
    const __m256i bits = _mm256_castps_si256(magnitude);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 20), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7ffff)));
    const __m256 normal = _mm256_castsi256_ps(_mm256_andnot_si256(_mm256_set1_epi32(0xfffff), up));
    const __m256 small = _mm256_sub_ps(_mm256_add_ps(magnitude, shift), shift);
    const __m256 rounded = _mm256_blendv_ps(
        normal, small, _mm256_cmp_ps(magnitude, _mm256_set1_ps(0x1p-6f), _CMP_LT_OQ));
    const __m256 clamped = _mm256_min_ps(rounded, _mm256_set1_ps(448));
    _mm256_maskstore_ps(values + i, mask, _mm256_or_ps(clamped, _mm256_and_ps(quotient, sign_bit)));
  });
}

void rms_norm(const float* x, const float* gamma, int64_t count, float epsilon, float* y) {
  __m256 squares = _mm256_setzero_ps();
  for_each_vector(count, [&](int64_t i, __m256i mask) {
    const __m256 v = _mm256_maskload_ps(x + i, mask);
    squares = _mm256_fmadd_ps(v, v, squares);
  });
  const float mean = horizontal_sum(squares) / static_cast<float>(count);
  const __m256 factor = _mm256_set1_ps(1 / std::sqrt(mean + epsilon));
  for_each_vector(count, [&](int64_t i, __m256i mask) {
    const __m256 v = _mm256_mul_ps(_mm256_maskload_ps(x + i, mask), factor);
    _mm256_maskstore_ps(y + i, mask, _mm256_mul_ps(v, _mm256_maskload_ps(gamma + i, mask)));
  });
}

void add(float* residual, const float* x, int64_t count) {
  for_each_vector(count, [&](int64_t i, __m256i mask) {
    _mm256_maskstore_ps(
        residual + i, mask,
        _mm256_add_ps(_mm256_maskload_ps(residual + i, mask), _mm256_maskload_ps(x + i, mask)));
  });
}

// e^x by 2^n · p(r), r = x - n ln 2 in [-ln 2 / 2, ln 2 / 2]; the polynomial is Cephes' expf
// (relative error 2e-7). Arguments are clamped to ±87, where the result is finite and not zero.
inline __m256 exponential(__m256 x) {
  x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-87)), _mm256_set1_ps(87));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504088896341f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
  p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), _mm256_add_ps(r, _mm256_set1_ps(1)));
  const __m256i power =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(p, _mm256_castsi256_ps(power));
}

void silu_mul(const float* gate, const float* up, int64_t count, float* y) {
  const __m256 one = _mm256_set1_ps(1);
  for_each_vector(count, [&](int64_t i, __m256i mask) {
    const __m256 g = _mm256_maskload_ps(gate + i, mask);
    const __m256 e = exponential(_mm256_sub_ps(_mm256_setzero_ps(), g));
    const __m256 silu = _mm256_div_ps(g, _mm256_add_ps(one, e));
    _mm256_maskstore_ps(y + i, mask, _mm256_mul_ps(silu, _mm256_maskload_ps(up + i, mask)));
  });
}

inline const uint16_t* cache_row(const uint16_t* const* block_rows, int64_t slot,
                                 int64_t head_dim) {
  return block_rows[slot / 16] + slot % 16 * head_dim;
}

void attend(const float* q, int64_t q_stride, int64_t queries, const uint16_t* const* block_rows,
            int64_t value_offset, int64_t visible, int64_t head_dim, float scale, float* weights,
            float* out, int64_t out_stride) {
  const int64_t padded = (visible + 7) / 8 * 8;
  for (int64_t t = 0; t < visible; ++t) {
    const uint16_t* key = cache_row(block_rows, t, head_dim);
    for (int64_t h = 0; h < queries; ++h) {
      __m256 dot = _mm256_setzero_ps();
      for (int64_t d = 0; d < head_dim; d += 8) {
        const __m256 k = from_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(key + d)));
        dot = _mm256_fmadd_ps(_mm256_loadu_ps(q + h * q_stride + d), k, dot);
      }
      weights[h * padded + t] = horizontal_sum(dot) * scale;
    }
  }
  for (int64_t h = 0; h < queries; ++h) {
    float* row = weights + h * padded;
    __m256 largest = _mm256_set1_ps(-INFINITY);
    for_each_vector(visible, [&](int64_t i, __m256i mask) {
      const __m256 v = _mm256_blendv_ps(
          _mm256_set1_ps(-INFINITY), _mm256_maskload_ps(row + i, mask), _mm256_castsi256_ps(mask));
      largest = _mm256_max_ps(largest, v);
    });
    const __m256 top = _mm256_set1_ps(horizontal_max(largest));
    __m256 total = _mm256_setzero_ps();
    for_each_vector(visible, [&](int64_t i, __m256i mask) {
      const __m256 e =
          _mm256_and_ps(exponential(_mm256_sub_ps(_mm256_maskload_ps(row + i, mask), top)),
                        _mm256_castsi256_ps(mask));
      total = _mm256_add_ps(total, e);
      _mm256_maskstore_ps(row + i, mask, e);
    });
    const __m256 inverse = _mm256_set1_ps(1 / horizontal_sum(total));
    // Sixty-four dimensions at a time stay in registers over all slots.
    for (int64_t d0 = 0; d0 < head_dim; d0 += 64) {
      const int64_t vectors = (head_dim - d0 < 64 ? head_dim - d0 : 64) / 8;
      __m256 sums[8];
      for (auto& sum : sums) sum = _mm256_setzero_ps();
      for (int64_t t = 0; t < visible; ++t) {
        const uint16_t* value = cache_row(block_rows, t, head_dim) + value_offset + d0;
        const __m256 share = _mm256_broadcast_ss(row + t);
        if (vectors == 8) {
          for (int i = 0; i < 8; ++i) {
            const __m256 v =
                from_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(value + i * 8)));
            sums[i] = _mm256_fmadd_ps(share, v, sums[i]);
          }
        } else {
          for (int64_t i = 0; i < vectors; ++i) {
            const __m256 v =
                from_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(value + i * 8)));
            sums[i] = _mm256_fmadd_ps(share, v, sums[i]);
          }
        }
      }
      for (int64_t i = 0; i < vectors; ++i)
        _mm256_storeu_ps(out + h * out_stride + d0 + i * 8, _mm256_mul_ps(sums[i], inverse));
    }
  }
}

constexpr Kernels kKernels = {
    "AVX2",   multiply, multiply_int8, round_to_bf16, absolute_maximum, quantize_int8, quantize_fp8,
    rms_norm, add,      silu_mul,      attend};

}  // namespace

const Kernels* avx2_kernels() { return &kKernels; }

}  // namespace narrow::ops::cpu
