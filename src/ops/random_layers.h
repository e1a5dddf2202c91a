// Random tensors and layers for tests of kernels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tensor/packed_linear.h"

namespace narrow::ops {

inline std::mt19937 random_numbers(7);

inline Tensor normal(std::vector<int64_t> shape, DType dtype, float spread = 1) {
  std::normal_distribution<float> distribution(0, spread);
  Tensor tensor(DType::f32, std::move(shape));
  for (float& value : tensor.as<float>()) value = distribution(random_numbers);
  return tensor.to(dtype);
}

// Random codes and scales, of this spread, for a layer whose sizes and quantized scheme are set:
// what a kernel must reproduce does not depend on how they were found.
inline void draw_weights(PackedLinear& linear, float spread) {
  const QuantArgs& args = *linear.scheme.weights;
  const int64_t out = linear.out, in = linear.in;
  const int64_t groups = args.strategy == QuantArgs::Strategy::group ? in / args.group_size : 1;
  linear.scale = normal({out, groups}, DType::bf16, spread);
  for (bf16& scale : linear.scale.as<bf16>()) scale.bits &= 0x7fff;
  if (args.type == QuantArgs::Type::floating) {
    linear.weight = normal({out, in}, DType::f8_e4m3, 60);
    return;
  }
  const int half = 1 << (args.bits - 1);
  std::uniform_int_distribution<int> code(-half, half - 1);
  Tensor codes(DType::i8, {out, in});
  for (int8_t& value : codes.as<int8_t>()) value = static_cast<int8_t>(code(random_numbers));
  linear.weight = linear.scheme.inputs ? codes : pack_codes(codes, args.bits);
  if (args.symmetric) return;
  linear.zero_point = Tensor(DType::i8, {out, groups});
  for (int8_t& value : linear.zero_point.as<int8_t>())
    value = static_cast<int8_t>(code(random_numbers));
}

// In one of the study's formats, weights with a spread of about 0.02. group: of 4-bit weights;
// `in`: a scale for each output.
inline PackedLinear layer(const std::string& format, int64_t out, int64_t in, int64_t group,
                          bool bias) {
  PackedLinear linear;
  linear.out = out;
  linear.in = in;
  if (bias) linear.bias = normal({out}, DType::bf16);
  if (format == "bf16") {
    linear.weight = normal({out, in}, DType::bf16, 0.02f);
    return linear;
  }
  linear.scheme = scheme_of_format(format, group);
  QuantArgs& args = *linear.scheme.weights;
  if (group == in && args.strategy == QuantArgs::Strategy::group)
    args.strategy = QuantArgs::Strategy::channel;
  draw_weights(linear, args.bits == 4 ? 0.005f : 0.0003f);
  return linear;
}

// Columns given to the groups of `linear` in a random order: legacy act-order.
inline void shuffle_groups(PackedLinear& linear) {
  const int64_t size = linear.scheme.weights->group_size;
  linear.group_index = Tensor(DType::i32, {linear.in});
  const auto groups = linear.group_index.as<int32_t>();
  for (size_t c = 0; c < groups.size(); ++c)
    groups[c] = static_cast<int32_t>(static_cast<int64_t>(c) / size);
  std::shuffle(groups.begin(), groups.end(), random_numbers);
}

// The rows of `few`, one behind the other again and again, `rows` in all.
inline Tensor repeated_rows(const Tensor& few, int64_t rows) {
  if (few.empty()) return {};
  std::vector<int64_t> shape = few.shape();
  const int64_t bytes_of_row = few.size_bytes() / shape[0];
  shape[0] = rows;
  Tensor many(few.dtype(), shape);
  for (int64_t r = 0; r < rows; r += few.dim(0))
    std::memcpy(many.data() + r * bytes_of_row, few.data(),
                static_cast<size_t>(std::min(rows - r, few.dim(0)) * bytes_of_row));
  return many;
}

// A layer of `out` outputs that are those of `few` again and again.
inline PackedLinear repeated(const PackedLinear& few, int64_t out) {
  PackedLinear many = few;
  many.out = out;
  many.weight = repeated_rows(few.weight, out);
  many.scale = repeated_rows(few.scale, out);
  many.zero_point = repeated_rows(few.zero_point, out);
  many.bias = repeated_rows(few.bias, out);
  return many;
}

}  // namespace narrow::ops
