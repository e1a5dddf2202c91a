#include "quantize/observer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "quantize/rounding.h"
#include "tensor/dtype.h"

namespace narrow::quantize {
namespace {

// The clipping search's norm and step, as llm-compressor's MSE observer has them.
constexpr double kGrid = 100;

// |d|^2.4 by 2^(2.4 log2 d), both by polynomials (relative error 1e-5): the library's pow would
// take longer than everything else here.
inline float power_2_4(float d) {
  d = std::fabs(d) + 1e-30f;
  const auto bits = std::bit_cast<uint32_t>(d);
  const float exponent = static_cast<float>(static_cast<int32_t>(bits >> 23) - 127);
  const float m = std::bit_cast<float>((bits & 0x7fffffu) | 0x3f800000u);
  // log2(m) on [1, 2), a minimax polynomial of degree 5.
  const float log2 =
      exponent +
      ((((0.0439288f * m - 0.4096144f) * m + 1.6101775f) * m - 3.5202189f) * m + 5.0697560f) * m -
      2.7941536f;
  const float y = std::max(2.4f * log2, -126.0f);
  const float whole = std::floor(y);
  const float f = y - whole;
  const float fraction =
      1 +
      f * (0.6931472f + f * (0.2402265f + f * (0.0555041f + f * (0.0096181f + f * 0.0013334f))));
  return fraction *
         std::bit_cast<float>(static_cast<uint32_t>(static_cast<int32_t>(whole) + 127) << 23);
}

// Sums that run side by side, so that a vector unit can take them: their number is part of the
// result, whatever the width of the unit.
constexpr size_t kLanes = 16;

// Rounds to the nearest integer, ties to even, as long as |x| < 2^22.
inline float nearest(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

[[gnu::always_inline]] inline float sum_errors(const float* w, size_t count, float scale,
                                               float zero, Grid grid) {
  const float inverse = 1 / scale;
  float sums[kLanes] = {};
  const auto add = [&](float value, float& sum) {
    const float code = nearest(std::clamp(value * inverse + zero, grid.low, grid.high));
    sum += power_2_4((code - zero) * scale - value);
  };
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) add(w[i + lane], sums[lane]);
  for (; i < count; ++i) add(w[i], sums[i % kLanes]);
  float sum = 0;
  for (float part : sums) sum += part;
  return sum;
}

// The same for each width of vectors, chosen by hand: the compiler's own choice (target_clones) is
// made before the thread sanitizer is there, and ends the program.
using SumErrors = float (*)(const float*, size_t, float, float, Grid);
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] float sum_errors_avx512(
    const float* w, size_t count, float scale, float zero, Grid grid) {
  return sum_errors(w, count, scale, zero, grid);
}
[[gnu::target("avx2")]] float sum_errors_avx2(const float* w, size_t count, float scale, float zero,
                                              Grid grid) {
  return sum_errors(w, count, scale, zero, grid);
}
float sum_errors_sse2(const float* w, size_t count, float scale, float zero, Grid grid) {
  return sum_errors(w, count, scale, zero, grid);
}

SumErrors widest() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return sum_errors_avx512;
  return __builtin_cpu_supports("avx2") ? sum_errors_avx2 : sum_errors_sse2;
}

float integer_error(const float* w, size_t count, float scale, float zero, Grid grid) {
  static const SumErrors sum = widest();
  return sum(w, count, scale, zero, grid);
}

float error_of(std::span<const float> w, float scale, float zero, const QuantArgs& args) {
  if (args.type == QuantArgs::Type::integer)
    return integer_error(w.data(), w.size(), scale, zero, grid_of(args));
  float sum = 0;
  for (float value : w) sum += power_2_4(to_float(to_f8_e4m3(value / scale)) * scale - value);
  return sum;
}

}  // namespace

Grid grid_of(const QuantArgs& args) {
  if (args.type == QuantArgs::Type::floating) return {-448, 448};
  const auto half = static_cast<float>(int64_t{1} << (args.bits - 1));
  return {-half, half - 1};
}

float scale_for(float low, float high, const QuantArgs& args, float& zero) {
  const Grid grid = grid_of(args);
  zero = 0;
  float scale;
  if (args.symmetric) {
    scale = round_bf16(std::max(-low, high) / ((grid.high - grid.low) / 2));
  } else {
    // The range is a bf16 number too, as everything compressed-tensors computes from bf16 weights.
    scale = round_bf16(round_bf16(high - low) / (grid.high - grid.low));
  }
  // A row of zeros: the epsilon of bf16, as compressed-tensors has it.
  if (!(scale > 0)) scale = 0x1p-7f;
  if (!args.symmetric)
    zero = std::nearbyintf(
        std::clamp(round_bf16(grid.low - round_bf16(low / scale)), grid.low, grid.high));
  return scale;
}

Scales observe(View<const float> w, const QuantArgs& args, const ObserverOptions& options,
               ThreadPool& pool) {
  Scales scales;
  scales.rows = w.rows;
  scales.group_size = args.strategy == QuantArgs::Strategy::group ? args.group_size : w.cols;
  scales.groups = w.cols / scales.group_size;
  scales.scale.resize(static_cast<size_t>(scales.rows * scales.groups));
  if (!args.symmetric) scales.zero_point.resize(scales.scale.size());
  const auto steps = static_cast<int>(options.max_shrink * kGrid);
  const auto observe_row = [&](int64_t r) {
    for (int64_t g = 0; g < scales.groups; ++g) {
      const std::span<const float> part = w.row(r).subspan(
          static_cast<size_t>(g * scales.group_size), static_cast<size_t>(scales.group_size));
      const auto [min, max] = std::minmax_element(part.begin(), part.end());
      const float low = std::min(*min, 0.0f), high = std::max(*max, 0.0f);
      float best_zero, best_scale = scale_for(low, high, args, best_zero);
      float best_error = std::numeric_limits<float>::infinity();
      for (int i = 0; i < steps; ++i) {
        const auto p = static_cast<float>(1 - i / kGrid);
        float zero;
        const float scale = scale_for(p * low, p * high, args, zero);
        const float error = error_of(part, scale, zero, args);
        if (error < best_error) {
          best_error = error;
          best_scale = scale;
          best_zero = zero;
        }
      }
      const auto at = static_cast<size_t>(r * scales.groups + g);
      scales.scale[at] = best_scale;
      if (!args.symmetric) scales.zero_point[at] = static_cast<int8_t>(best_zero);
    }
  };
  pool.parallel_for(w.rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) observe_row(r);
  });
  return scales;
}

}  // namespace narrow::quantize
