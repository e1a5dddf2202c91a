// In place of NVIDIA's header: conversions to and from e4m3, of which a half has each number.
#pragma once

#include <cuda_fp16.h>

#include "tensor/dtype.h"

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
inline uint16_t __nv_cvt_float2_to_fp8x2(float2 pair, int, int) {
  return static_cast<uint16_t>(narrow::to_f8_e4m3(pair.x).bits | narrow::to_f8_e4m3(pair.y).bits
                                                                     << 8);
}
