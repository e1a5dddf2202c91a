#include "quantize/rounding.h"

#include <algorithm>
#include <cmath>

#include "tensor/dtype.h"

namespace narrow::quantize {

float code_of(float w, float scale, float zero, const QuantArgs& args, bool round_quotient) {
  float quotient = w / scale;
  if (round_quotient) quotient = round_bf16(quotient);
  if (args.type == QuantArgs::Type::floating) return to_float(to_f8_e4m3(quotient));
  const Grid grid = grid_of(args);
  if (round_quotient && zero != 0)
    quotient = round_bf16(quotient + zero);
  else
    quotient += zero;
  return std::nearbyintf(std::clamp(quotient, grid.low, grid.high));
}

namespace {

// f32 [out, in]: the nearest code of every weight.
Tensor codes_of(const Tensor& weight, const Scales& scales, const QuantArgs& args,
                ThreadPool& pool) {
  const auto w = weight.matrix<float>();
  Tensor codes(DType::f32, weight.shape());
  const auto to = codes.matrix<float>();
  pool.parallel_for(w.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin * scales.groups; at < end * scales.groups; ++at) {
      const float scale = scales.scale[static_cast<size_t>(at)], zero = scales.zero(at);
      for (int64_t i = at * scales.group_size; i < (at + 1) * scales.group_size; ++i)
        to.data[i] = code_of(w.data[i], scale, zero, args, /*round_quotient=*/true);
    }
  });
  return codes;
}

}  // namespace

PackedLinear pack(const Tensor& codes, const Scales& scales, const Scheme& scheme) {
  const QuantArgs& args = *scheme.weights;
  PackedLinear linear;
  linear.scheme = scheme;
  linear.out = codes.dim(0);
  linear.in = codes.dim(1);
  const auto values = codes.as<float>();
  if (args.type == QuantArgs::Type::floating) {
    linear.weight = codes.to(DType::f8_e4m3);
  } else {
    Tensor integers(DType::i8, codes.shape());
    std::ranges::transform(values, integers.as<int8_t>().begin(),
                           [](float value) { return static_cast<int8_t>(value); });
    linear.weight = scheme.inputs ? integers : pack_codes(integers, args.bits);
  }
  linear.scale = Tensor(DType::bf16, {scales.rows, scales.groups});
  std::ranges::transform(scales.scale, linear.scale.as<bf16>().begin(),
                         [](float scale) { return to_bf16(scale); });
  if (!scales.zero_point.empty()) {
    linear.zero_point = Tensor(DType::i8, {scales.rows, scales.groups});
    std::copy(scales.zero_point.begin(), scales.zero_point.end(),
              linear.zero_point.as<int8_t>().begin());
  }
  return linear;
}

PackedLinear round_to_nearest(const Tensor& weight, const Scheme& scheme,
                              const ObserverOptions& options, ThreadPool& pool) {
  const Scales scales = observe(weight.matrix<float>(), *scheme.weights, options, pool);
  return pack(codes_of(weight, scales, *scheme.weights, pool), scales, scheme);
}

Tensor nearest_values(const Tensor& weight, const Scheme& scheme, const ObserverOptions& options,
                      ThreadPool& pool) {
  const Scales scales = observe(weight.matrix<float>(), *scheme.weights, options, pool);
  Tensor values = codes_of(weight, scales, *scheme.weights, pool);
  const auto v = values.matrix<float>();
  pool.parallel_for(v.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin * scales.groups; at < end * scales.groups; ++at) {
      const float scale = scales.scale[static_cast<size_t>(at)], zero = scales.zero(at);
      float* group = v.data + at * scales.group_size;
      for (int64_t c = 0; c < scales.group_size; ++c)
        group[c] = round_bf16((group[c] - zero) * scale);
    }
  });
  return values;
}

}  // namespace narrow::quantize
