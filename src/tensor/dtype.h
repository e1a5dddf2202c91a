// Element types and their exact conversions: the only place that knows bits. All conversions from
// float round to nearest, ties to even. NaN stays NaN. Header-only, safe from any thread.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

namespace narrow {

enum class DType : uint8_t { f32, f16, bf16, f8_e4m3, i8, u8, i32, i64 };

int64_t size_of(DType dtype);           // bytes an element
std::string_view name_of(DType dtype);  // "bf16", as printed

// 1 sign, 8 exponent, 7 fraction bits: the upper half of a float.
struct bf16 {
  uint16_t bits = 0;
};

// IEEE 754 binary16.
struct f16 {
  uint16_t bits = 0;
};

// 1 sign, 4 exponent (bias 7), 3 fraction bits; largest 448; no infinities, 0x7f and 0xff are NaN
// (OCP 8-bit floating point, E4M3FN).
struct f8_e4m3 {
  uint8_t bits = 0;
};

inline float to_float(bf16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

inline bf16 to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

// The value as it would be after a trip through bf16.
inline float round_bf16(float value) { return to_float(to_bf16(value)); }

float to_float(f16 value);
f16 to_f16(float value);
float to_float(f8_e4m3 value);
// Values beyond ±448 are clamped to ±448, as quantizers do before the cast.
f8_e4m3 to_f8_e4m3(float value);

template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::f32;
}
template <>
constexpr DType dtype_of<f16>() {
  return DType::f16;
}
template <>
constexpr DType dtype_of<bf16>() {
  return DType::bf16;
}
template <>
constexpr DType dtype_of<f8_e4m3>() {
  return DType::f8_e4m3;
}
template <>
constexpr DType dtype_of<int8_t>() {
  return DType::i8;
}
template <>
constexpr DType dtype_of<uint8_t>() {
  return DType::u8;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::i32;
}
template <>
constexpr DType dtype_of<int64_t>() {
  return DType::i64;
}

}  // namespace narrow
