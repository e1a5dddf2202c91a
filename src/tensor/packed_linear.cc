#include "tensor/packed_linear.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "base/error.h"

namespace narrow {
namespace {

// The product as it comes out in the scale's own type.
float product(float code, float scale, DType scale_dtype) {
  const float exact = code * scale;
  switch (scale_dtype) {
    case DType::bf16:
      return round_bf16(exact);
    case DType::f16:
      return to_float(to_f16(exact));
    case DType::f32:
      return exact;
    case DType::f8_e4m3:
    case DType::i8:
    case DType::u8:
    case DType::i32:
    case DType::i64:
      break;
  }
  throw Error::failed("a scale cannot be " + std::string(name_of(scale_dtype)));
}

}  // namespace

int64_t PackedLinear::size_bytes() const {
  return weight.size_bytes() + scale.size_bytes() + zero_point.size_bytes() +
         group_index.size_bytes() + input_scale.size_bytes() + bias.size_bytes();
}

void unpack_rows(const PackedLinear& linear, int64_t first, int64_t count, int8_t* to) {
  assert(linear.scheme.weights && linear.scheme.weights->type == QuantArgs::Type::integer);
  if (linear.weight.dtype() == DType::i8) {
    std::memcpy(to, linear.weight.data() + first * linear.in,
                static_cast<size_t>(count * linear.in));
    return;
  }
  const int bits = linear.scheme.weights->bits;
  const uint32_t mask = (1u << bits) - 1;
  const int offset = 1 << (bits - 1);
  const auto words = linear.weight.matrix<int32_t>();
  for (int64_t r = first; r < first + count; ++r, to += linear.in) {
    const auto from = words.row(r);
    for (int64_t c = 0; c < linear.in; ++c) {
      const int64_t bit = c * bits;
      const auto word = static_cast<size_t>(bit / 32);
      const int shift = static_cast<int>(bit % 32);
      uint32_t value = static_cast<uint32_t>(from[word]) >> shift;
      if (shift + bits > 32) value |= static_cast<uint32_t>(from[word + 1]) << (32 - shift);
      to[c] = static_cast<int8_t>(static_cast<int>(value & mask) - offset);
    }
  }
}

Tensor unpack_codes(const PackedLinear& linear) {
  if (linear.weight.dtype() == DType::i8) return linear.weight;
  Tensor codes = Tensor::unfilled(DType::i8, {linear.out, linear.in});
  unpack_rows(linear, 0, linear.out, codes.as<int8_t>().data());
  return codes;
}

Tensor pack_codes(const Tensor& codes, int bits) {
  assert(bits >= 2 && bits <= 8);
  const auto from = codes.matrix<int8_t>();
  const uint32_t mask = (1u << bits) - 1;
  const int offset = 1 << (bits - 1);
  Tensor packed(DType::i32, {from.rows, (from.cols * bits + 31) / 32});
  for (int64_t r = 0; r < from.rows; ++r) {
    const auto words = packed.matrix<int32_t>().row(r);
    const auto row = from.row(r);
    for (int64_t c = 0; c < from.cols; ++c) {
      const int64_t bit = c * bits;
      const auto word = static_cast<size_t>(bit / 32);
      const int shift = static_cast<int>(bit % 32);
      const uint32_t value = static_cast<uint32_t>(row[static_cast<size_t>(c)] + offset) & mask;
      words[word] |= static_cast<int32_t>(value << shift);
      if (shift + bits > 32) words[word + 1] |= static_cast<int32_t>(value >> (32 - shift));
    }
  }
  return packed;
}

Tensor dequantize(const PackedLinear& linear) {
  if (linear.scheme.dense()) return linear.weight.to(DType::f32);
  const QuantArgs& args = *linear.scheme.weights;
  const Tensor codes = args.type == QuantArgs::Type::integer ? unpack_codes(linear) : linear.weight;
  Tensor result = codes.to(DType::f32);
  const Tensor scales = linear.scale.to(DType::f32);
  const auto scale = scales.as<float>();
  const bool one_scale = scale.size() == 1;
  const int64_t groups = one_scale ? 1 : static_cast<int64_t>(scale.size()) / linear.out;
  std::span<const int8_t> zeros;
  std::span<const int32_t> group_of_input;
  if (!linear.zero_point.empty()) zeros = linear.zero_point.as<int8_t>();
  if (!linear.group_index.empty()) group_of_input = linear.group_index.as<int32_t>();
  const auto rows = result.matrix<float>();
  const auto scaled = [&](float code, int64_t at) {
    const auto place = static_cast<size_t>(at);
    if (!zeros.empty()) code -= static_cast<float>(zeros[place]);
    return product(code, scale[place], linear.scale.dtype());
  };
  const int64_t width = args.strategy == QuantArgs::Strategy::group
                            ? args.group_size
                            : std::max<int64_t>(linear.in, 1);
  for (int64_t r = 0; r < linear.out; ++r) {
    const auto row = rows.row(r);
    const int64_t first = one_scale ? 0 : r * groups;
    if (!group_of_input.empty()) {
      for (size_t c = 0; c < row.size(); ++c)
        row[c] = scaled(row[c], one_scale ? 0 : first + group_of_input[c]);
      continue;
    }
    for (int64_t begin = 0; begin < linear.in; begin += width) {
      const int64_t at = one_scale ? 0 : first + begin / width;
      for (float& value : row.subspan(static_cast<size_t>(begin),
                                      static_cast<size_t>(std::min(width, linear.in - begin))))
        value = scaled(value, at);
    }
  }
  return result;
}

}  // namespace narrow
