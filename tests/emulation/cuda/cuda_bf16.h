// In place of NVIDIA's header.
#pragma once

#include "tensor/dtype.h"

using __nv_bfloat16 = narrow::bf16;

inline float __bfloat162float(__nv_bfloat16 value) { return narrow::to_float(value); }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return narrow::to_bf16(value); }
