#include "ops/cpu/cpu_linear.h"

#include <algorithm>
#include <cstring>
#include <vector>

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

// Panels of `panel_bytes` each, made side by side by pack(first output, outputs, panel), of which
// it finds zeros.
template <class Pack>
Tensor make_panels(int64_t out, int64_t panel_bytes, ThreadPool& pool, Pack pack) {
  const int64_t panels = (out + kPanelColumns - 1) / kPanelColumns;
  Tensor packed = Tensor::unfilled(DType::u8, {panels, panel_bytes});
  pool.parallel_for(panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      std::byte* panel = packed.data() + p * panel_bytes;
      std::memset(panel, 0, static_cast<size_t>(panel_bytes));
      const int64_t first = p * kPanelColumns;
      pack(first, std::min(kPanelColumns, out - first), panel);
    }
  });
  return packed;
}

// Copies element (j, k) of rows [width, in] to place (k, j) of a panel.
template <class T>
void fill_panel(const T* rows, int64_t width, int64_t in, std::byte* panel) {
  auto* to = reinterpret_cast<T*>(panel);
  for (int64_t k = 0; k < in; ++k)
    for (int64_t j = 0; j < width; ++j) to[k * kPanelColumns + j] = rows[j * in + k];
}

template <class T>
Tensor pack_panels(const T* matrix, int64_t out, int64_t in, ThreadPool& pool) {
  return make_panels(out, in * kPanelColumns * int64_t{sizeof(T)}, pool,
                     [&](int64_t first, int64_t width, std::byte* panel) {
                       fill_panel(matrix + first * in, width, in, panel);
                     });
}

// The same of integer codes: pack(codes [outputs, in], outputs, panel).
template <class Pack>
Tensor pack_codes_in_panels(const PackedLinear& linear, int64_t panel_bytes, ThreadPool& pool,
                            Pack pack) {
  return make_panels(linear.out, panel_bytes, pool,
                     [&](int64_t first, int64_t width, std::byte* panel) {
                       thread_local std::vector<int8_t> codes;
                       codes.resize(static_cast<size_t>(width * linear.in));
                       unpack_rows(linear, first, width, codes.data());
                       pack(codes.data(), width, panel);
                     });
}

Tensor pack_bytes(const PackedLinear& linear, ThreadPool& pool) {
  return pack_codes_in_panels(linear, linear.in * kPanelColumns, pool,
                              [&](const int8_t* codes, int64_t width, std::byte* panel) {
                                fill_panel(codes, width, linear.in, panel);
                              });
}

// Pairs of inputs side by side, as multiply_int8 wants them.
Tensor pack_pairs(const PackedLinear& linear, ThreadPool& pool) {
  const int64_t in = linear.in;
  return pack_codes_in_panels(linear, (in + 1) / 2 * kPanelColumns * 2, pool,
                              [in](const int8_t* codes, int64_t width, std::byte* panel) {
                                auto* to = reinterpret_cast<int8_t*>(panel);
                                for (int64_t k = 0; k < in; ++k)
                                  for (int64_t j = 0; j < width; ++j)
                                    to[k / 2 * 32 + 2 * j + k % 2] = codes[j * in + k];
                              });
}

// Codes -8 … 7 become 0 … 15; byte j of an input holds outputs j and j + 8.
Tensor pack_nibbles(const PackedLinear& linear, ThreadPool& pool) {
  const int64_t in = linear.in;
  return pack_codes_in_panels(linear, in * 8, pool,
                              [in](const int8_t* codes, int64_t width, std::byte* panel) {
                                auto* to = reinterpret_cast<uint8_t*>(panel);
                                for (int64_t j = 0; j < width; ++j)
                                  for (int64_t k = 0; k < in; ++k) {
                                    const auto code = static_cast<uint8_t>(codes[j * in + k] + 8);
                                    uint8_t& pair = to[k * 8 + j % 8];
                                    pair = static_cast<uint8_t>(pair | (j < 8 ? code : code << 4));
                                  }
                              });
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

void pack_dense(const Tensor& weight, ThreadPool& pool, CpuPart& part) {
  part.round_input = weight.dtype() == DType::bf16;
  if (weight.dtype() == DType::bf16) {
    part.kind = PanelKind::bf16;
    part.weights = pack_panels(weight.as<bf16>().data(), part.out, part.in, pool);
  } else {
    const Tensor wide = weight.to(DType::f32);
    part.kind = PanelKind::f32;
    part.weights = pack_panels(wide.as<float>().data(), part.out, part.in, pool);
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

CpuPart make_part(const PackedLinear& linear, ThreadPool& pool) {
  CpuPart part;
  part.input = input_kind(linear.scheme);
  part.in = linear.in;
  part.out = linear.out;
  part.group = std::max<int64_t>(1, linear.in);
  if (!linear.bias.empty()) part.bias = linear.bias.to(DType::f32);
  if (linear.scheme.dense()) {
    pack_dense(linear.weight, pool, part);
    return part;
  }
  const QuantArgs& args = *linear.scheme.weights;
  const bool per_output = args.strategy != QuantArgs::Strategy::group;
  if (args.type == QuantArgs::Type::floating && per_output) {
    part.kind = PanelKind::fp8;
    part.weights = pack_panels(linear.weight.as<f8_e4m3>().data(), part.out, part.in, pool);
  } else if (part.input == InputKind::int8_per_token) {
    part.kind = PanelKind::int8;
    part.weights = pack_pairs(linear, pool);
  } else if (args.type == QuantArgs::Type::integer && linear.group_index.empty()) {
    if (!per_output) part.group = args.group_size;
    part.groups = per_output ? 1 : linear.in / args.group_size;
    part.kind = args.bits == 4 ? PanelKind::int4 : PanelKind::int8;
    part.weights = args.bits == 4 ? pack_nibbles(linear, pool) : pack_bytes(linear, pool);
    add_group_scales(linear, args.bits == 4 ? 8 : 0, part);
    return part;
  } else {
    // Columns in any order of groups (legacy act-order), FP8 by groups: rare, so run dequantized.
    pack_dense(dequantize(linear), pool, part);
    part.round_input = true;
    return part;
  }
  part.output_scale = Tensor(DType::f32, {part.out});
  const auto scales = scales_per_output(linear, 1);
  std::memcpy(part.output_scale.data(), scales.data(), scales.size() * sizeof(float));
  return part;
}

CpuLinear::CpuLinear(std::span<const PackedLinear> parts, ThreadPool& pool)
    : in_(parts.front().in) {
  for (const PackedLinear& linear : parts) {
    parts_.push_back(make_part(linear, pool));
    out_ += linear.out;
    const CpuPart& part = parts_.back();
    bytes_ += part.weights.size_bytes() + part.scale.size_bytes() + part.offset.size_bytes();
  }
}

}  // namespace narrow::ops::cpu
