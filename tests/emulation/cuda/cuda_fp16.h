// In place of NVIDIA's header: a float stands for a half.
#pragma once

#include <cuda_runtime_api.h>

struct __half {
  float value;
};
struct __half2 {
  float low, high;
};

inline float __half2float(__half value) { return value.value; }
inline float2 __half22float2(__half2 pair) { return {pair.low, pair.high}; }
