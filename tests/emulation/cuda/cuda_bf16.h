// In place of NVIDIA's header.
#pragma once

#include "tensor/dtype.h"

using __nv_bfloat16 = narrow::bf16;

struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline float __bfloat162float(__nv_bfloat16 value) { return narrow::to_float(value); }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return narrow::to_bf16(value); }

inline __nv_bfloat16 __habs(__nv_bfloat16 value) {
  return {static_cast<uint16_t>(value.bits & 0x7fff)};
}
inline float __low2float(__nv_bfloat162 pair) { return narrow::to_float(pair.x); }
inline float __high2float(__nv_bfloat162 pair) { return narrow::to_float(pair.y); }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 low, __nv_bfloat16 high) {
  return {low, high};
}
inline __nv_bfloat162 __float2bfloat162_rn(float value) {
  return {narrow::to_bf16(value), narrow::to_bf16(value)};
}
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 value) { return {value, value}; }
inline __nv_bfloat162 __habs2(__nv_bfloat162 pair) { return {__habs(pair.x), __habs(pair.y)}; }
inline __nv_bfloat162 __hmax2(__nv_bfloat162 a, __nv_bfloat162 b) {
  const auto of = [](__nv_bfloat16 x, __nv_bfloat16 y) {
    return narrow::to_float(x) < narrow::to_float(y) ? y : x;
  };
  return {of(a.x, b.x), of(a.y, b.y)};
}

// Of pairs, each result rounded.
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
  const auto of = [](__nv_bfloat16 x, __nv_bfloat16 y, __nv_bfloat16 z) {
    return narrow::to_bf16(static_cast<float>(double{narrow::to_float(x)} * narrow::to_float(y) +
                                              narrow::to_float(z)));
  };
  return {of(a.x, b.x, c.x), of(a.y, b.y, c.y)};
}
inline __nv_bfloat162 __hmul2(__nv_bfloat162 a, __nv_bfloat162 b) {
  const auto of = [](__nv_bfloat16 x, __nv_bfloat16 y) {
    return narrow::to_bf16(narrow::to_float(x) * narrow::to_float(y));
  };
  return {of(a.x, b.x), of(a.y, b.y)};
}
inline __nv_bfloat162 __hsub2(__nv_bfloat162 a, __nv_bfloat162 b) {
  const auto of = [](__nv_bfloat16 x, __nv_bfloat16 y) {
    return narrow::to_bf16(narrow::to_float(x) - narrow::to_float(y));
  };
  return {of(a.x, b.x), of(a.y, b.y)};
}
