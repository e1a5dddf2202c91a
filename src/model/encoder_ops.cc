#include "model/encoder_ops.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace narrow::model {
namespace {

constexpr int64_t kRowGrain = 4;

}  // namespace

void add_layer_norm(View<float> x, View<const float> residual, std::span<const float> gamma,
                    std::span<const float> beta, double epsilon, ThreadPool& pool) {
  const auto width = static_cast<size_t>(x.cols);
  pool.parallel_for(x.rows, kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const std::span<float> row = x.row(r);
      if (residual.data) {
        const std::span<const float> other = residual.row(r);
        for (size_t i = 0; i < width; ++i) row[i] += other[i];
      }
      double sum = 0, squares = 0;
      for (float value : row) sum += value;
      const double mean = sum / static_cast<double>(width);
      for (float value : row) squares += (value - mean) * (value - mean);
      const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + epsilon);
      for (size_t i = 0; i < width; ++i)
        row[i] = static_cast<float>((row[i] - mean) * scale) * gamma[i] + beta[i];
    }
  });
}

void gelu(View<float> x, ThreadPool& pool) {
  constexpr float kRootHalf = 0.70710678f;
  pool.parallel_for(x.rows, kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (float& value : x.row(r)) value = 0.5f * value * (1 + std::erf(value * kRootHalf));
  });
}

void attend_both_ways(View<const float> qkv, int64_t heads, View<float> out, ThreadPool& pool) {
  const int64_t tokens = qkv.rows, hidden = out.cols, width = hidden / heads;
  const float scale = 1 / std::sqrt(static_cast<float>(width));
  pool.parallel_for(heads, 1, [&](int64_t begin, int64_t end) {
    // Keys with tokens side by side, so that the loop over tokens is the inner one.
    std::vector<float> keys(static_cast<size_t>(width * tokens));
    std::vector<float> weights(static_cast<size_t>(tokens));
    for (int64_t head = begin; head < end; ++head) {
      const int64_t first = head * width;
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t d = 0; d < width; ++d)
          keys[static_cast<size_t>(d * tokens + t)] = qkv(t, hidden + first + d);
      for (int64_t t = 0; t < tokens; ++t) {
        std::fill(weights.begin(), weights.end(), 0.0f);
        for (int64_t d = 0; d < width; ++d) {
          const float q = qkv(t, first + d) * scale;
          const float* key = keys.data() + d * tokens;
          for (size_t s = 0; s < weights.size(); ++s) weights[s] += q * key[s];
        }
        const float largest = *std::max_element(weights.begin(), weights.end());
        double sum = 0;
        for (float& weight : weights) {
          weight = std::exp(weight - largest);
          sum += weight;
        }
        const float inverse = static_cast<float>(1 / sum);
        float* to = out.row(t).data() + first;
        std::fill(to, to + width, 0.0f);
        for (int64_t s = 0; s < tokens; ++s) {
          const float weight = weights[static_cast<size_t>(s)] * inverse;
          const float* value = qkv.row(s).data() + 2 * hidden + first;
          for (int64_t d = 0; d < width; ++d) to[d] += weight * value[d];
        }
      }
    }
  });
}

}  // namespace narrow::model
