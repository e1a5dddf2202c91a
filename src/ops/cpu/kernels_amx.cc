// Matrix products on AMX tiles; the rest is kernels_avx512_vnni.cc's. Compiled with -mamx-tile,
// -mamx-bf16, -mamx-int8 and AVX-512: includes nothing but intrinsics.
//
// A tile has 16 rows of 64 bytes. Sums are [16 rows of x][16 outputs], inputs [16 rows of x][64
// bytes of inputs], and weights hold four bytes of inputs for each of the sixteen outputs of a
// panel in a row: the panel is brought into that order once and then multiplied with all rows.
#include <immintrin.h>

#include "ops/cpu/decode_avx512.h"
#include "ops/cpu/kernels.h"

namespace narrow::ops::cpu {
namespace {

constexpr int64_t kMostRowTiles = 6;  // of eight tiles, beside one of inputs and one of weights

struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Tiles are configured per thread; released again, they cost nothing at a change of threads.
class Tiles {
 public:
  Tiles() {
    static const TileConfiguration configuration;
    _tile_loadconfig(&configuration);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

// The intrinsics are macros that take the number of a tile literally.
#define NARROW_FOR_ROW_TILES(DO) \
  do {                           \
    DO(0);                       \
    if constexpr (tiles > 1) {   \
      DO(1);                     \
    }                            \
    if constexpr (tiles > 2) {   \
      DO(2);                     \
    }                            \
    if constexpr (tiles > 3) {   \
      DO(3);                     \
    }                            \
    if constexpr (tiles > 4) {   \
      DO(4);                     \
    }                            \
    if constexpr (tiles > 5) {   \
      DO(5);                     \
    }                            \
  } while (false)

// acc = x · w for `tiles` · 16 rows. weights: [steps][16][64 bytes]; x: rows of x_bytes bytes.
template <bool integers, int tiles>
void multiply_row_tiles(const char* weights, int64_t steps, const char* x, int64_t x_bytes,
                        char* acc) {
#define NARROW_CLEAR(i) _tile_zero(i)
  NARROW_FOR_ROW_TILES(NARROW_CLEAR);
  for (int64_t s = 0; s < steps; ++s) {
    _tile_loadd(7, weights + s * 1024, 64);
#define NARROW_MULTIPLY(i)                                       \
  _tile_loadd(6, x + (i)*kTileRows * x_bytes + s * 64, x_bytes); \
  if constexpr (integers) {                                      \
    _tile_dpbssd(i, 6, 7);                                       \
  } else {                                                       \
    _tile_dpbf16ps(i, 6, 7);                                     \
  }
    NARROW_FOR_ROW_TILES(NARROW_MULTIPLY);
  }
#define NARROW_STORE(i) _tile_stored(i, acc + (i)*kTileRows * 64, 64)
  NARROW_FOR_ROW_TILES(NARROW_STORE);
}

#undef NARROW_FOR_ROW_TILES
#undef NARROW_CLEAR
#undef NARROW_MULTIPLY
#undef NARROW_STORE

template <bool integers>
void multiply_all(const char* weights, int64_t steps, const char* x, int64_t x_bytes, int64_t rows,
                  char* acc) {
  const Tiles configured;
  for (int64_t r = 0; r < rows; r += kMostRowTiles * kTileRows) {
    const int64_t left = (rows - r + kTileRows - 1) / kTileRows;
    const char* from = x + r * x_bytes;
    char* to = acc + r * 64;
    switch (left) {
      case 1:
        multiply_row_tiles<integers, 1>(weights, steps, from, x_bytes, to);
        break;
      case 2:
        multiply_row_tiles<integers, 2>(weights, steps, from, x_bytes, to);
        break;
      case 3:
        multiply_row_tiles<integers, 3>(weights, steps, from, x_bytes, to);
        break;
      case 4:
        multiply_row_tiles<integers, 4>(weights, steps, from, x_bytes, to);
        break;
      case 5:
        multiply_row_tiles<integers, 5>(weights, steps, from, x_bytes, to);
        break;
      default:
        multiply_row_tiles<integers, 6>(weights, steps, from, x_bytes, to);
        break;
    }
  }
}

void multiply_bf16(const Panel& panel, const uint16_t* x, int64_t x_stride, int64_t rows,
                   float* acc, void* scratch) {
  decode_pairs(panel, static_cast<__m512i*>(scratch));
  multiply_all<false>(static_cast<const char*>(scratch), (panel.inputs + 31) / 32,
                      reinterpret_cast<const char*>(x), x_stride * 2, rows,
                      reinterpret_cast<char*>(acc));
}

void multiply_int8_tiles(const int8_t* weights, int64_t inputs, const int8_t* x, int64_t x_stride,
                         int64_t rows, int32_t* acc, void* scratch) {
  // Pairs [inputs / 2][16][2] become fours [inputs / 4][16][4], with zeros up to 64 inputs.
  auto* fours = static_cast<__m512i*>(scratch);
  const int64_t pairs = (inputs + 1) / 2, steps = (inputs + 63) / 64;
  const auto pair_at = [&](int64_t p) {
    return p < pairs ? _mm512_cvtepu16_epi32(
                           _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + p * 32)))
                     : _mm512_setzero_si512();
  };
  for (int64_t q = 0; q < steps * 16; ++q)
    fours[q] = _mm512_or_si512(pair_at(2 * q), _mm512_slli_epi32(pair_at(2 * q + 1), 16));
  multiply_all<true>(static_cast<const char*>(scratch), steps, reinterpret_cast<const char*>(x),
                     x_stride, rows, reinterpret_cast<char*>(acc));
}

Kernels kernels() {
  Kernels result = *avx512_vnni_kernels();
  result.name = "AMX";
  result.multiply_bf16 = multiply_bf16;
  result.multiply_int8_tiles = multiply_int8_tiles;
  return result;
}

}  // namespace

const Kernels* amx_kernels() {
  static const Kernels result = kernels();
  return &result;
}

}  // namespace narrow::ops::cpu
