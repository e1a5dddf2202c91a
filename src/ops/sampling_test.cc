// The drawing of tokens against its definition written down naively.
#include "ops/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace narrow::ops {
namespace {

// Ids that top_k and top_p keep, by sorting and by sums of exponentials in long double.
std::vector<int32_t> kept_naively(const std::vector<float>& logits, const LogitQuery& query) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto logit = [&](int32_t id) { return logits[static_cast<size_t>(id)]; };
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int32_t a, int32_t b) { return logit(a) > logit(b); });
  if (query.top_k > 0) ids.resize(std::min(ids.size(), static_cast<size_t>(query.top_k)));
  const auto weight = [&](int32_t id) {
    return std::exp((static_cast<long double>(logit(id)) - logit(ids[0])) / query.temperature);
  };
  long double total = 0, kept = 0;
  for (int32_t id : ids) total += weight(id);
  size_t count = 0;
  while (count < ids.size() && kept < query.top_p * total) kept += weight(ids[count++]);
  ids.resize(std::max<size_t>(1, count));
  std::sort(ids.begin(), ids.end());
  return ids;
}

TEST(Sampling, WeightsAreExponentials) {
  for (const double temperature : {0.2, 0.6, 1.0, 3.0}) {
    const TokenWeights weight_of(12.5f, temperature);
    EXPECT_EQ(weight_of(12.5f), uint64_t{1} << 44);
    for (float logit = 12.5f; logit > -12; logit -= 0.0137f) {
      const long double exact =
          std::exp((static_cast<long double>(logit) - 12.5L) / temperature) * 0x1p44L;
      if (exact < 1) {
        EXPECT_LE(weight_of(logit), 1u);
      } else {
        // Rounded down; the power itself is known to 2^-44.
        EXPECT_NEAR(static_cast<double>(weight_of(logit)), static_cast<double>(exact - 0.5L),
                    0.5 + static_cast<double>(exact) * 0x1p-44);
      }
    }
    EXPECT_EQ(weight_of(weightless_below(12.5f, temperature)), 0u);
    EXPECT_EQ(weight_of(NAN), 0u);
    EXPECT_EQ(weight_of(-INFINITY), 0u);
  }
}

TEST(Argmax, IsTheFirstOfTheLargestNumbers) {
  EXPECT_EQ(argmax(std::vector<float>{1, 3, 2, 3}), 1);
  EXPECT_EQ(argmax(std::vector<float>{NAN, -7, NAN, 2, 2}), 3);
  EXPECT_EQ(argmax(std::vector<float>{NAN, -INFINITY}), 1);
  EXPECT_EQ(argmax(std::vector<float>{NAN, NAN}), 0);
}

TEST(Sampling, RanksOrderLogitsThenIds) {
  const std::vector<float> falling = {INFINITY, 3.5f, 1e-30f, 0.0f, -1e-30f, -7, -INFINITY, NAN};
  for (size_t i = 1; i < falling.size(); ++i)
    EXPECT_GT(rank_of(falling[i - 1], 9), rank_of(falling[i], 1));
  EXPECT_GT(rank_of(2, 4), rank_of(2, 5));
  EXPECT_EQ(order_key(0.0f), order_key(-0.0f));
}

TEST(Sampling, PointsAreExactProducts) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 10000; ++i) {
    const uint64_t a = random(), b = random() >> (i % 64);
    const auto exact = static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
    ASSERT_EQ(point_of(a, b), exact);
  }
  EXPECT_EQ(point_of(~uint64_t{0}, ~uint64_t{0}), ~uint64_t{1});
}

// Every kept token is drawn, no other ever is, and each as often as its weight says.
TEST(Sampling, DrawsFromTheKeptTokens) {
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(40);
  for (float& logit : logits) logit = normal(random);
  logits[7] = logits[21] = logits[30] = 5;  // equal ones: lower ids first
  for (const int64_t top_k : {0, 1, 2, 10, 40, 100})
    for (const double top_p : {1.0, 0.9, 0.5, 1e-12, 0.0})
      for (const double temperature : {0.7, 2.0}) {
        LogitQuery query{.temperature = temperature, .top_k = top_k, .top_p = top_p};
        const std::vector<int32_t> kept = kept_naively(logits, query);
        constexpr int kDraws = 1000;
        std::vector<int> counts(logits.size());
        for (int i = 0; i < kDraws; ++i) {
          // Evenly spread randomness: a count is off by at most one.
          query.random = static_cast<uint64_t>(i) * (~uint64_t{0} / kDraws) + 12345;
          ++counts[static_cast<size_t>(choose(logits, query))];
        }
        double total = 0;
        for (int32_t id : kept)
          total += std::exp((logits[static_cast<size_t>(id)] - 5.0) / temperature);
        for (size_t id = 0; id < logits.size(); ++id) {
          const bool in =
              std::find(kept.begin(), kept.end(), static_cast<int32_t>(id)) != kept.end();
          const double share = in ? std::exp((logits[id] - 5.0) / temperature) / total : 0;
          ASSERT_NEAR(counts[id], share * kDraws, in ? 1.01 : 0)
              << "token " << id << ", top_k " << top_k << ", top_p " << top_p;
        }
      }
}

TEST(Sampling, RowsWithoutWeightGiveTheLikeliest) {
  LogitQuery query{.temperature = 1, .random = ~uint64_t{0}};
  EXPECT_EQ(choose(std::vector<float>{1, INFINITY, 2}, query), 1);
  EXPECT_EQ(choose(std::vector<float>{NAN, NAN}, query), 0);
  query.top_p = 0.5;
  EXPECT_EQ(choose(std::vector<float>{-INFINITY, -INFINITY, -INFINITY}, query), 0);
  query.temperature = 1e-300;
  EXPECT_EQ(choose(std::vector<float>{1, 5, 2}, query), 1);
}

}  // namespace
}  // namespace narrow::ops
