#include "analyse/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "analyse/paired.h"
#include "analyse/rng.h"
#include "base/json.h"

namespace narrow::analyse {
namespace {

using testing::DoubleNear;
using testing::Pointwise;

// Figures of scipy, statsmodels and numpy (tests/goldens/analyse/make_goldens.py).
const Json& golden() {
  static const Json document =
      read_json(NARROW_SOURCE_DIR "/tests/goldens/analyse/statistics.json");
  return document;
}

TEST(Statistics, NormalDistributionIsScipys) {
  for (const Json& entry : golden()["normal_quantile"])
    EXPECT_NEAR(normal_quantile(entry[0]), entry[1].get<double>(),
                1e-13 * (1 + std::abs(entry[1].get<double>())));
  for (const Json& entry : golden()["normal_cdf"])
    EXPECT_NEAR(normal_cdf(entry[0]) / entry[1].get<double>(), 1, 1e-12);
}

TEST(Statistics, WilsonIsStatsmodels) {
  for (const Json& entry : golden()["wilson"]) {
    const Interval interval = wilson(entry[0], entry[1]);
    EXPECT_NEAR(interval.low, entry[2].get<double>(), 1e-12);
    EXPECT_NEAR(interval.high, entry[3].get<double>(), 1e-12);
  }
  EXPECT_EQ(wilson(0, 0), (Interval{0, 1}));
}

TEST(Statistics, McnemarIsStatsmodels) {
  for (const Json& entry : golden()["mcnemar"])
    EXPECT_NEAR(mcnemar_exact(entry[0], entry[1]), entry[2].get<double>(), 1e-10);
}

TEST(Statistics, LossContrastIsPutTogetherFromScipysParts) {
  const Json& entry = golden()["loss_contrast"];
  std::vector<Difference> differences;
  std::vector<Estimate> baselines;
  for (const Json& task : entry["tasks"]) {
    PairedScores scores;
    for (const char digit : task["a"].get<std::string>()) scores.a.push_back(digit - '0');
    for (const char digit : task["b"].get<std::string>()) scores.b.push_back(digit - '0');
    differences.push_back(paired_difference(scores, resample_pairs(scores, 100, 1)));
    EXPECT_EQ(differences.back().method, "Tango score");
    baselines.push_back(baseline_mean(scores));
  }
  for (const Json& at : entry["at"]) {
    const Interval interval = loss_contrast(differences, baselines, at[0]);
    EXPECT_NEAR(interval.low, at[1][0].get<double>(), 1e-6);
    EXPECT_NEAR(interval.high, at[1][1].get<double>(), 1e-6);
  }
  EXPECT_NEAR(loss_bound(differences, baselines), entry["bound"].get<double>(), 1e-6);
}

TEST(Statistics, TangoMaximizesTheRestrictedLikelihood) {
  for (const Json& entry : golden()["tango"]) {
    const Interval interval = tango(entry[0], entry[1], entry[2]);
    EXPECT_NEAR(interval.low, entry[3].get<double>(), 1e-6) << entry;
    EXPECT_NEAR(interval.high, entry[4].get<double>(), 1e-6) << entry;
  }
  // All flips one way, or every question flips: the ends stay inside [-1, 1].
  for (const auto& [lost, gained] : {std::pair<int64_t, int64_t>{4, 0}, {0, 4}, {2, 2}}) {
    const Interval interval = tango(lost, gained, 4);
    EXPECT_GE(interval.low, -1);
    EXPECT_LE(interval.high, 1);
    EXPECT_LT(interval.low, interval.high);
  }
}

TEST(Statistics, HolmIsStatsmodels) {
  const auto p = golden()["holm"]["p"].get<std::vector<double>>();
  EXPECT_THAT(holm(p), Pointwise(DoubleNear(1e-15),
                                 golden()["holm"]["adjusted"].get<std::vector<double>>()));
  EXPECT_TRUE(holm({}).empty());
}

TEST(Statistics, QuantilesAreNumpys) {
  const auto values = golden()["quantile"]["values"].get<std::vector<double>>();
  for (const Json& entry : golden()["quantile"]["at"])
    EXPECT_NEAR(quantile_of_sorted(values, entry[0]), entry[1].get<double>(), 1e-12);
}

TEST(Statistics, QuantileIntervalsAreOrderStatistics) {
  std::vector<double> ranks(100);
  for (size_t i = 0; i < ranks.size(); ++i) ranks[i] = static_cast<double>(i + 1);
  // 50 ± 9.8, rounded up.
  EXPECT_EQ(quantile_interval(ranks, 0.5), (Interval{41, 60}));
  EXPECT_EQ(quantile_interval(std::span(ranks).first(3), 0.5), std::nullopt);
  EXPECT_EQ(quantile_interval(ranks, 0.99), std::nullopt);
}

TEST(Statistics, StandardErrorsFollowScipyAndMiller) {
  const Json& entry = golden()["standard_error"];
  const auto values = entry["values"].get<std::vector<double>>();
  const auto clusters = entry["clusters"].get<std::vector<int64_t>>();
  EXPECT_NEAR(standard_error(values), entry["independent"].get<double>(), 1e-14);
  EXPECT_NEAR(clustered_standard_error(values, clusters), entry["clustered"].get<double>(), 1e-14);
}

// scipy draws other resamples (200 000 of them): ends agree within what 10 000 leave open, about a
// fortieth of a standard error each; a tenth is four of those.
TEST(Statistics, BcaAgreesWithScipy) {
  for (const Json& entry : golden()["bca"]) {
    const PairedScores scores{entry["a"], entry["b"], {}};
    const Resamples resamples = resample_pairs(scores, 10000, 42);
    const Difference difference = paired_difference(scores, resamples);
    EXPECT_EQ(difference.method, "BCa bootstrap");
    const double slack = 0.1 * difference.standard_error;
    EXPECT_NEAR(difference.estimate.interval->low, entry["difference"][0].get<double>(), slack);
    EXPECT_NEAR(difference.estimate.interval->high, entry["difference"][1].get<double>(), slack);
    const Recovery recovery = paired_recovery(scores, resamples, 0);
    const double ratio_slack = slack / mean(scores.a);
    EXPECT_NEAR(recovery.ratio->interval->low, entry["ratio"][0].get<double>(), ratio_slack);
    EXPECT_NEAR(recovery.ratio->interval->high, entry["ratio"][1].get<double>(), ratio_slack);
  }
}

TEST(Statistics, SignFlipsApproachTheExactTest) {
  const auto differences = golden()["sign_flips"]["differences"].get<std::vector<double>>();
  const double exact = golden()["sign_flips"]["p"].get<double>();
  EXPECT_NEAR(sign_flip_test(differences, 100000, 3), exact, 5 * std::sqrt(exact / 100000));
}

TEST(Statistics, BlockRatioWeighsBlocksBySize) {
  const std::vector<double> sums{1, 10, 4}, sizes{1, 4, 2};
  const Estimate estimate = block_ratio(sums, sizes, 1000, 1);
  EXPECT_DOUBLE_EQ(estimate.value, 15.0 / 7);
  EXPECT_LT(estimate.interval->low, 15.0 / 7);
  EXPECT_GT(estimate.interval->high, 15.0 / 7);
  EXPECT_FALSE(block_ratio(std::vector{1.0}, std::vector{1.0}, 1000, 1).interval);
  EXPECT_FALSE(block_ratio(std::vector{2.0, 2.0}, std::vector{1.0, 1.0}, 1000, 1).interval);
}

TEST(Statistics, SameSeedSameBits) {
  const PairedScores scores{{0.1, 0.4, 0.9, 0.3}, {0.2, 0.1, 0.8, 0.6}, {}};
  EXPECT_EQ(resample_pairs(scores, 500, 9).mean_b, resample_pairs(scores, 500, 9).mean_b);
  EXPECT_NE(resample_pairs(scores, 500, 9).mean_b, resample_pairs(scores, 500, 10).mean_b);
}

}  // namespace
}  // namespace narrow::analyse
