// The stored tensors of one linear layer plus its Scheme, exactly as in the checkpoint.
// Backend::prepare lays it out for the hardware; dequantize() is the plain meaning of the bytes.
#pragma once

#include <cstdint>

#include "tensor/scheme.h"
#include "tensor/tensor.h"

namespace narrow {

// y = x Wᵀ + bias with W [out, in]. Which tensors are set depends on the scheme:
//   dense          weight f32/f16/bf16 [out, in]
//   int, 8-bit with quantized inputs ("int-quantized")   weight i8 [out, in]
//   float, 8-bit ("float-quantized")                     weight f8_e4m3 [out, in]
//   int, weight-only ("pack-quantized")                  weight i32 [out, ceil(in * bits / 32)]
struct PackedLinear {
  Scheme scheme;
  int64_t out = 0;
  int64_t in = 0;
  Tensor weight;
  Tensor scale;        // bf16 (or f16, f32) [out, 1] | [out, in / group] | [1]
  Tensor zero_point;   // i8 [out, groups], unpacked here whatever the file had; empty: symmetric
  Tensor group_index;  // i32 [in]: group of each column (legacy act-order); empty: column / group
  Tensor input_scale;  // f32 [1], static activations; empty: dynamic or none
  Tensor bias;         // as stored [out]; empty: none

  int64_t size_bytes() const;
};

// Integer codes of a quantized integer weight, unpacked: i8 [out, in].
// REQUIRES: scheme.weights is an integer scheme.
Tensor unpack_codes(const PackedLinear& linear);
// Of rows [first, first + count) alone, to `to` [count, in].
void unpack_rows(const PackedLinear& linear, int64_t first, int64_t count, int8_t* to);

// Packs codes i8 [out, in] of `bits` bits (two's complement) into i32 words
// [out, ceil(in * bits / 32)]: u = code + 2^(bits-1), little end first, dense across words
// (compressed-tensors >= 0.9).
Tensor pack_codes(const Tensor& codes, int bits);

// W as float [out, in]: bf16(code * scale) for bf16 scales, because that is what compressed-tensors
// computes when it decompresses.
Tensor dequantize(const PackedLinear& linear);

}  // namespace narrow
