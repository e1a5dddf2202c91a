// Dynamic per-token quantization of activations, the same on every backend (docs/formats.md). The
// scale stays in float32; the rules are those of compressed-tensors' fake quantizer.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace narrow::ops {

// max|x| / 127.5, or a tiny scale for a row of zeros.
float int8_scale(float absolute_maximum);

// scale = int8_scale(max|x|); code = round half to even(x / scale), clamped to -128 … 127.
// Returns the scale. codes: same length as x.
float quantize_int8(std::span<const float> x, int8_t* codes);

// max|x| / 448, or a tiny scale for a row of zeros.
float fp8_scale(float absolute_maximum);

// scale = fp8_scale(max|x|); code = e4m3(x / scale), clamped to ±448.
float quantize_fp8(std::span<const float> x, f8_e4m3* codes);

}  // namespace narrow::ops
