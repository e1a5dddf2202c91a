#include "ops/activation.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace narrow::ops {
namespace {

float largest_magnitude(std::span<const float> x) {
  float largest = 0;
  for (float value : x) largest = std::max(largest, std::fabs(value));
  return largest;
}

// A zero scale becomes the epsilon of its type, as in compressed-tensors.
float scale_of(float largest, float grid) {
  const float scale = largest / grid;
  return scale > 0 ? scale : std::numeric_limits<float>::epsilon();
}

}  // namespace

float int8_scale(float absolute_maximum) { return scale_of(absolute_maximum, 127.5f); }

float quantize_int8(std::span<const float> x, int8_t* codes) {
  const float scale = int8_scale(largest_magnitude(x));
  for (size_t i = 0; i < x.size(); ++i)
    codes[i] = static_cast<int8_t>(std::clamp(std::nearbyint(x[i] / scale), -128.0f, 127.0f));
  return scale;
}

float fp8_scale(float absolute_maximum) { return scale_of(absolute_maximum, 448.0f); }

float quantize_fp8(std::span<const float> x, f8_e4m3* codes) {
  const float scale = fp8_scale(largest_magnitude(x));
  for (size_t i = 0; i < x.size(); ++i) codes[i] = to_f8_e4m3(x[i] / scale);
  return scale;
}

}  // namespace narrow::ops
