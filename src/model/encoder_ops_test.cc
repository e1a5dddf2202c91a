// Against the formulas of the header in double, over sizes that fill no block; bitwise the same for
// any number of threads.
#include "model/encoder_ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace narrow::model {
namespace {

std::vector<float> random_values(int64_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = 3 * normal(generator);
  return values;
}

TEST(EncoderOps, AddLayerNorm) {
  constexpr int64_t kRows = 7, kCols = 33;
  const auto x = random_values(kRows * kCols, 1), added = random_values(kRows * kCols, 2);
  const auto gamma = random_values(kCols, 3), beta = random_values(kCols, 4);
  for (const bool with : {false, true}) {
    std::vector<float> results[2] = {x, x};
    for (const int threads : {1, 3}) {
      ThreadPool pool(threads);
      add_layer_norm({results[threads > 1].data(), kRows, kCols},
                     with ? View<const float>(added.data(), kRows, kCols) : View<const float>(),
                     gamma, beta, 1e-5, pool);
    }
    EXPECT_EQ(results[0], results[1]);
    for (int64_t r = 0; r < kRows; ++r) {
      std::vector<double> row;
      double mean = 0, variance = 0;
      for (int64_t c = 0; c < kCols; ++c) {
        const auto at = static_cast<size_t>(r * kCols + c);
        row.push_back(x[at] + (with ? static_cast<double>(added[at]) : 0.0));
        mean += row.back() / kCols;
      }
      for (double value : row) variance += (value - mean) * (value - mean) / kCols;
      for (size_t c = 0; c < row.size(); ++c) {
        const double wanted = (row[c] - mean) / std::sqrt(variance + 1e-5) * gamma[c] + beta[c];
        EXPECT_NEAR(results[0][static_cast<size_t>(r) * kCols + c], wanted,
                    4e-7 * (4 + 4 * std::abs(gamma[c]) + std::abs(beta[c])));
      }
    }
  }
}

TEST(EncoderOps, Gelu) {
  std::vector<float> values{-20, -3, -0.75f, 0, 0.5f, 1, 20};
  const std::vector<float> before = values;
  ThreadPool pool(2);
  gelu({values.data(), 1, static_cast<int64_t>(values.size())}, pool);
  for (size_t i = 0; i < values.size(); ++i) {
    const double x = before[i];
    EXPECT_NEAR(values[i], x * std::erfc(-x / std::sqrt(2.0)) / 2, 4e-7 * (1 + std::abs(x)));
  }
}

TEST(EncoderOps, Attention) {
  constexpr int64_t kTokens = 11, kHeads = 3, kWidth = 5, kHidden = kHeads * kWidth;
  const auto qkv = random_values(kTokens * 3 * kHidden, 5);
  const auto at = [&](int64_t part, int64_t t, int64_t i) {
    return static_cast<double>(qkv[static_cast<size_t>((t * 3 + part) * kHidden + i)]);
  };
  std::vector<float> results[2];
  for (const int threads : {1, 3}) {
    auto& out = results[threads > 1];
    out.resize(kTokens * kHidden);
    ThreadPool pool(threads);
    attend_both_ways({qkv.data(), kTokens, 3 * kHidden}, kHeads, {out.data(), kTokens, kHidden},
                     pool);
  }
  EXPECT_EQ(results[0], results[1]);
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t i = 0; i < kHidden; ++i) {
      const int64_t first = i / kWidth * kWidth;
      double total = 0, sum = 0;
      for (int64_t s = 0; s < kTokens; ++s) {
        double dot = 0;
        for (int64_t d = first; d < first + kWidth; ++d) dot += at(0, t, d) * at(1, s, d);
        const double weight = std::exp(dot / std::sqrt(static_cast<double>(kWidth)));
        total += weight;
        sum += weight * at(2, s, i);
      }
      // Scores of up to 50 carry an error of 50 · 2⁻²⁴ · a few into the exponent.
      EXPECT_NEAR(results[0][static_cast<size_t>(t * kHidden + i)], sum / total, 1e-4);
    }
  }
}

}  // namespace
}  // namespace narrow::model
