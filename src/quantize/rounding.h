// From weights and scales to stored codes. Pure functions.
#pragma once

#include "quantize/observer.h"
#include "tensor/packed_linear.h"

namespace narrow::quantize {

// The code of one weight: w / scale (+ zero point), rounded half to even and clamped; for e4m3 the
// value of the code. round_quotient: the quotient is rounded to bf16 first, as compressed-tensors
// does when it rounds a bf16 model.
float code_of(float w, float scale, float zero, const QuantArgs& args, bool round_quotient);

// Plain rounding of every weight. weight: f32 [out, in] holding bf16 values.
PackedLinear round_to_nearest(const Tensor& weight, const Scheme& scheme,
                              const ObserverOptions& options, ThreadPool& pool);

// What dequantize() makes of round_to_nearest(), without the packing between: f32 [out, in].
Tensor nearest_values(const Tensor& weight, const Scheme& scheme, const ObserverOptions& options,
                      ThreadPool& pool);

// Puts codes (integers, or e4m3 values) [out, in] into checkpoint form.
PackedLinear pack(const Tensor& codes, const Scales& scales, const Scheme& scheme);

}  // namespace narrow::quantize
