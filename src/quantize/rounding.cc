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
  const QuantArgs& args = *scheme.weights;
  const auto w = weight.matrix<float>();
  const Scales scales = observe(w, args, options, pool);
  Tensor codes(DType::f32, weight.shape());
  const auto to = codes.matrix<float>();
  pool.parallel_for(w.rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < w.cols; ++c) {
        const auto at = static_cast<size_t>(r * scales.groups + c / scales.group_size);
        const float zero = scales.zero_point.empty() ? 0.0f : scales.zero_point[at];
        to(r, c) = code_of(w(r, c), scales.scale[at], zero, args, /*round_quotient=*/true);
      }
    }
  });
  return pack(codes, scales, scheme);
}

}  // namespace narrow::quantize
