#include "quantize/smoothing.h"

#include <algorithm>
#include <cmath>

namespace narrow::quantize {

std::vector<float> smoothquant_scales(std::span<const float> activation_range,
                                      const std::vector<const Tensor*>& layers, double strength) {
  std::vector<float> s(activation_range.size()), largest(s.size(), 0.0f);
  for (const Tensor* layer : layers) {
    const auto w = layer->matrix<float>();
    for (int64_t r = 0; r < w.rows; ++r) {
      const auto row = w.row(r);
      for (size_t c = 0; c < s.size(); ++c) largest[c] = std::max(largest[c], std::fabs(row[c]));
    }
  }
  for (size_t c = 0; c < s.size(); ++c) {
    const double a = activation_range[c], w = 2.0 * largest[c];
    const double value = w > 0 ? std::pow(a, strength) / std::pow(w, 1 - strength) : a;
    s[c] = static_cast<float>(std::max(value, 1e-5));
  }
  return s;
}

std::vector<std::vector<float>> awq_candidates(std::span<const float> mean_magnitude,
                                               const std::vector<const Tensor*>& layers,
                                               int64_t group_size) {
  const size_t columns = mean_magnitude.size();
  std::vector<double> weight_mean(columns, 0);
  int64_t rows = 0;
  for (const Tensor* layer : layers) {
    const auto w = layer->matrix<float>();
    rows += w.rows;
    for (int64_t r = 0; r < w.rows; ++r) {
      for (int64_t g = 0; g < w.cols; g += group_size) {
        const int64_t end = std::min(w.cols, g + group_size);
        float largest = 0;
        for (int64_t c = g; c < end; ++c) largest = std::max(largest, std::fabs(w(r, c)));
        for (int64_t c = g; c < end; ++c)
          weight_mean[static_cast<size_t>(c)] += std::fabs(w(r, c)) / (largest + 1e-6f);
      }
    }
  }
  for (double& mean : weight_mean) mean /= static_cast<double>(rows);

  constexpr int kSteps = 18;
  std::vector<std::vector<float>> candidates;
  candidates.emplace_back(columns, 1.0f);
  for (int i = 0; i <= kSteps; ++i) {
    const double r = static_cast<double>(i) / kSteps;
    std::vector<float> s(columns);
    float low = INFINITY, high = 0;
    for (size_t c = 0; c < columns; ++c) {
      const double value =
          std::pow(mean_magnitude[c], r) / (std::pow(weight_mean[c], 1 - r) + 1e-4);
      s[c] = std::max(static_cast<float>(value), 1e-4f);
      low = std::min(low, s[c]);
      high = std::max(high, s[c]);
    }
    const float middle = std::sqrt(high * low);
    for (float& value : s) {
      value /= middle;
      if (!std::isfinite(value)) value = 1;
    }
    candidates.push_back(std::move(s));
  }
  return candidates;
}

Tensor scale_columns(const Tensor& weight, const std::vector<float>& s, ThreadPool& pool) {
  Tensor result(DType::f32, weight.shape());
  const auto from = weight.matrix<float>();
  const auto to = result.matrix<float>();
  pool.parallel_for(from.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const std::span<const float> in = from.row(r);
      const std::span<float> out = to.row(r);
      for (size_t c = 0; c < s.size(); ++c) out[c] = round_bf16(in[c] * s[c]);
    }
  });
  return result;
}

Tensor divide_rows(const Tensor& weight, const std::vector<float>& s) {
  Tensor result = weight.clone();
  const auto values = result.as<float>();
  const size_t columns = values.size() / s.size();
  for (size_t i = 0; i < values.size(); ++i) values[i] = round_bf16(values[i] / s[i / columns]);
  return result;
}

}  // namespace narrow::quantize
