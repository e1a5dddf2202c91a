// In place of NVIDIA's headers of numbers of 16 and of 8 bits: e4m3 by way of a half, which has
// each of its numbers, so a float stands for it here.
#pragma once

#include <cuda_runtime_api.h>

#include "tensor/dtype.h"

struct __half {
  float value;
};
struct __half2 {
  float low, high;
};
enum { __NV_E4M3, __NV_SATFINITE };

inline __half __nv_cvt_fp8_to_halfraw(uint8_t code, int) {
  return {narrow::to_float(narrow::f8_e4m3{code})};
}
inline __half2 __nv_cvt_fp8x2_to_halfraw2(uint16_t codes, int) {
  return {narrow::to_float(narrow::f8_e4m3{static_cast<uint8_t>(codes)}),
          narrow::to_float(narrow::f8_e4m3{static_cast<uint8_t>(codes >> 8)})};
}
inline uint8_t __nv_cvt_float_to_fp8(float value, int, int) {
  return narrow::to_f8_e4m3(value).bits;
}
inline float __half2float(__half value) { return value.value; }
inline float2 __half22float2(__half2 pair) { return {pair.low, pair.high}; }
