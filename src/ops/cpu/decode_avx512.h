// The weights of a panel as floats, one input at a time: sixteen outputs are one register. For
// translation units compiled with AVX-512 only; without linkage, so that none of it is shared with
// code compiled otherwise.
#pragma once

#include <immintrin.h>

#include "ops/cpu/kernels.h"

namespace narrow::ops::cpu {
namespace {

template <PanelKind kind>
struct Decoder;

template <>
struct Decoder<PanelKind::f32> {
  explicit Decoder(const Panel& panel) : data(static_cast<const float*>(panel.weights)) {}
  void group(int64_t) {}
  __m512 at(int64_t k) const { return _mm512_loadu_ps(data + k * 16); }
  const float* data;
};

template <>
struct Decoder<PanelKind::bf16> {
  explicit Decoder(const Panel& panel) : data(static_cast<const uint16_t*>(panel.weights)) {}
  void group(int64_t) {}
  __m512 at(int64_t k) const {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + k * 16));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  const uint16_t* data;
};

template <>
struct Decoder<PanelKind::fp8> {
  explicit Decoder(const Panel& panel) : data(static_cast<const uint8_t*>(panel.weights)) {}
  void group(int64_t) {}
  // As AVX2's from_fp8: exact, subnormals included.
  __m512 at(int64_t k) const {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + k * 16));
    const __m512i wide = _mm512_slli_epi32(_mm512_cvtepu8_epi32(bytes), 24);
    const __m512i bits = _mm512_and_si512(_mm512_srai_epi32(wide, 4),
                                          _mm512_set1_epi32(static_cast<int>(0x87f00000)));
    return _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0x1p120f));
  }
  const uint8_t* data;
};

// Integer codes: value = code · scale + offset, one rounding (none for bf16 scales).
struct Grouped {
  explicit Grouped(const Panel& panel) : scales(panel.scale), offsets(panel.offset) {}
  void group(int64_t g) {
    scale = _mm512_loadu_ps(scales + g * 16);
    offset = _mm512_loadu_ps(offsets + g * 16);
  }
  __m512 value(__m512i codes) const {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(codes), scale, offset);
  }
  const float *scales, *offsets;
  __m512 scale = _mm512_setzero_ps(), offset = scale;
};

template <>
struct Decoder<PanelKind::int8> : Grouped {
  explicit Decoder(const Panel& panel)
      : Grouped(panel), data(static_cast<const int8_t*>(panel.weights)) {}
  __m512 at(int64_t k) const {
    return value(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(data + k * 16))));
  }
  const int8_t* data;
};

template <>
struct Decoder<PanelKind::int4> : Grouped {
  explicit Decoder(const Panel& panel)
      : Grouped(panel), data(static_cast<const uint8_t*>(panel.weights)) {}
  __m512 at(int64_t k) const {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(data + k * 8));
    const __m128i low = _mm_and_si128(bytes, _mm_set1_epi8(15));
    const __m128i high = _mm_and_si128(_mm_srli_epi16(bytes, 4), _mm_set1_epi8(15));
    return value(_mm512_cvtepu8_epi32(_mm_unpacklo_epi64(low, high)));
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

// The upper half of a float, rounded to nearest even, in place.
inline __m512i rounded_to_bf16(__m512 value) {
  const __m512i bits = _mm512_castps_si512(value);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
}

// to: [inputs / 2][16][2] bf16, followed by zeros up to a multiple of 32 inputs.
template <PanelKind kind>
void decode_pairs(const Panel& panel, __m512i* to) {
  const int64_t padded = (panel.inputs + 31) / 32 * 16;
  for (int64_t pair = panel.inputs / 2; pair < padded; ++pair) to[pair] = _mm512_setzero_si512();
  for_each_group<kind>(
      panel, 0, panel.inputs, [&](const Decoder<kind>& decoder, int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k) {
          const __m512i half = _mm512_srli_epi32(rounded_to_bf16(decoder.at(k)), 16);
          to[k / 2] = k % 2 == 0 ? half : _mm512_or_si512(to[k / 2], _mm512_slli_epi32(half, 16));
        }
      });
}

[[maybe_unused]] void decode_pairs(const Panel& panel, __m512i* to) {
  switch (panel.kind) {
    case PanelKind::f32:
      return decode_pairs<PanelKind::f32>(panel, to);
    case PanelKind::bf16:
      return decode_pairs<PanelKind::bf16>(panel, to);
    case PanelKind::fp8:
      return decode_pairs<PanelKind::fp8>(panel, to);
    case PanelKind::int8:
      return decode_pairs<PanelKind::int8>(panel, to);
    case PanelKind::int4:
      return decode_pairs<PanelKind::int4>(panel, to);
  }
}

}  // namespace
}  // namespace narrow::ops::cpu
