#include "ops/cpu/cpu_linear.h"

#include <algorithm>
#include <cstring>

namespace narrow::ops::cpu {
namespace {

// Scales as f32 [out][groups], a single one spread over all outputs.
std::vector<float> scales_per_output(const PackedLinear& linear, int64_t groups) {
  const Tensor wide = linear.scale.to(DType::f32);
  const auto values = wide.as<float>();
  std::vector<float> scales(static_cast<size_t>(linear.out * groups));
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = values[values.size() == 1 ? 0 : i];
  return scales;
}

// Copies element (n, k) of a [out, in] matrix to panel n / 16, place (k, n % 16).
template <class T>
Tensor pack_panels(const T* matrix, int64_t out, int64_t in) {
  const int64_t panels = (out + kPanelColumns - 1) / kPanelColumns;
  Tensor packed(DType::u8, {panels, in, kPanelColumns * static_cast<int64_t>(sizeof(T))});
  T* to = reinterpret_cast<T*>(packed.data());
  // Panel by panel, so that each line of it is written once.
  for (int64_t first = 0; first < out; first += kPanelColumns) {
    const int64_t width = std::min(kPanelColumns, out - first);
    T* panel = to + first * in;
    for (int64_t k = 0; k < in; ++k)
      for (int64_t j = 0; j < width; ++j)
        panel[k * kPanelColumns + j] = matrix[(first + j) * in + k];
  }
  return packed;
}

// Pairs of inputs side by side, as multiply_int8 wants them.
Tensor pack_pairs(const int8_t* matrix, int64_t out, int64_t in) {
  const int64_t panels = (out + kPanelColumns - 1) / kPanelColumns;
  const int64_t pairs = (in + 1) / 2;
  Tensor packed(DType::u8, {panels, pairs, kPanelColumns * 2});
  auto* to = reinterpret_cast<int8_t*>(packed.data());
  for (int64_t n = 0; n < out; ++n) {
    int8_t* column = to + (n / kPanelColumns) * pairs * 32 + n % kPanelColumns * 2;
    for (int64_t k = 0; k < in; ++k) column[k / 2 * 32 + k % 2] = matrix[n * in + k];
  }
  return packed;
}

// Codes -8 … 7 become 0 … 15; byte j of an input holds outputs j and j + 8.
Tensor pack_nibbles(const int8_t* codes, int64_t out, int64_t in) {
  const int64_t panels = (out + kPanelColumns - 1) / kPanelColumns;
  Tensor packed(DType::u8, {panels, in, 8});
  auto* to = reinterpret_cast<uint8_t*>(packed.data());
  for (int64_t n = 0; n < out; ++n) {
    const int64_t j = n % kPanelColumns;
    uint8_t* column = to + (n / kPanelColumns) * in * 8 + j % 8;
    for (int64_t k = 0; k < in; ++k) {
      const auto code = static_cast<uint8_t>(codes[n * in + k] + 8);
      column[k * 8] = static_cast<uint8_t>(column[k * 8] | (j < 8 ? code : code << 4));
    }
  }
  return packed;
}

void add_group_scales(const PackedLinear& linear, int zero, CpuPart& part) {
  const auto scales = scales_per_output(linear, part.groups);
  part.scale = Tensor(DType::f32, {part.panels(), part.groups, kPanelColumns});
  part.offset = Tensor(DType::f32, {part.panels(), part.groups, kPanelColumns});
  const auto zero_points =
      linear.zero_point.empty() ? std::span<const int8_t>() : linear.zero_point.as<int8_t>();
  for (int64_t n = 0; n < part.out; ++n) {
    for (int64_t g = 0; g < part.groups; ++g) {
      const auto from = static_cast<size_t>(n * part.groups + g);
      const auto to = static_cast<size_t>(((n / kPanelColumns) * part.groups + g) * kPanelColumns +
                                          n % kPanelColumns);
      const int point = zero + (zero_points.empty() ? 0 : zero_points[from]);
      part.scale.as<float>()[to] = scales[from];
      part.offset.as<float>()[to] = -static_cast<float>(point) * scales[from];
    }
  }
}

void pack_dense(const Tensor& weight, CpuPart& part) {
  part.round_input = weight.dtype() == DType::bf16;
  if (weight.dtype() == DType::bf16) {
    part.kind = PanelKind::bf16;
    part.weights = pack_panels(weight.as<bf16>().data(), part.out, part.in);
  } else {
    const Tensor wide = weight.to(DType::f32);
    part.kind = PanelKind::f32;
    part.weights = pack_panels(wide.as<float>().data(), part.out, part.in);
  }
}

}  // namespace

Panel CpuPart::panel(int64_t index) const {
  const int64_t scales = index * groups * kPanelColumns;
  return {kind,
          weights.data() + index * panel_bytes(),
          scale.empty() ? nullptr : scale.as<float>().data() + scales,
          offset.empty() ? nullptr : offset.as<float>().data() + scales,
          in,
          group};
}

CpuPart make_part(const PackedLinear& linear) {
  CpuPart part;
  part.input = input_kind(linear.scheme);
  part.in = linear.in;
  part.out = linear.out;
  part.group = std::max<int64_t>(1, linear.in);
  if (!linear.bias.empty()) part.bias = linear.bias.to(DType::f32);
  if (linear.scheme.dense()) {
    pack_dense(linear.weight, part);
    return part;
  }
  const QuantArgs& args = *linear.scheme.weights;
  const bool per_output = args.strategy != QuantArgs::Strategy::group;
  if (args.type == QuantArgs::Type::floating && per_output) {
    part.kind = PanelKind::fp8;
    part.weights = pack_panels(linear.weight.as<f8_e4m3>().data(), part.out, part.in);
  } else if (part.input == InputKind::int8_per_token) {
    const Tensor codes = unpack_codes(linear);
    part.kind = PanelKind::int8;
    part.weights = pack_pairs(codes.as<int8_t>().data(), part.out, part.in);
  } else if (args.type == QuantArgs::Type::integer && linear.group_index.empty()) {
    const Tensor codes = unpack_codes(linear);
    if (!per_output) part.group = args.group_size;
    part.groups = per_output ? 1 : linear.in / args.group_size;
    part.kind = args.bits == 4 ? PanelKind::int4 : PanelKind::int8;
    part.weights = args.bits == 4 ? pack_nibbles(codes.as<int8_t>().data(), part.out, part.in)
                                  : pack_panels(codes.as<int8_t>().data(), part.out, part.in);
    add_group_scales(linear, args.bits == 4 ? 8 : 0, part);
    return part;
  } else {
    // Columns in any order of groups (legacy act-order), FP8 by groups: rare, so run dequantized.
    pack_dense(dequantize(linear), part);
    part.round_input = true;
    return part;
  }
  part.output_scale = Tensor(DType::f32, {part.out});
  const auto scales = scales_per_output(linear, 1);
  std::memcpy(part.output_scale.data(), scales.data(), scales.size() * sizeof(float));
  return part;
}

CpuLinear::CpuLinear(std::span<const PackedLinear> parts) : in_(parts.front().in) {
  for (const PackedLinear& linear : parts) {
    parts_.push_back(make_part(linear));
    out_ += linear.out;
    const CpuPart& part = parts_.back();
    bytes_ += part.weights.size_bytes() + part.scale.size_bytes() + part.offset.size_bytes();
  }
}

}  // namespace narrow::ops::cpu
