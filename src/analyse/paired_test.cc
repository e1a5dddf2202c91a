#include "analyse/paired.h"

#include <gtest/gtest.h>

#include <cmath>

#include "analyse/simulate.h"

namespace narrow::analyse {
namespace {

PairedScores flips(int64_t count, int64_t right, int64_t lost, int64_t gained) {
  PairedScores scores;
  for (int64_t i = 0; i < count; ++i) {
    const bool was = i < right;
    const bool is = was ? i >= lost : i - right < gained;
    scores.a.push_back(was);
    scores.b.push_back(is);
  }
  return scores;
}

// Few changes are left to Tango's interval, many to the bootstrap; no change is no certainty.
TEST(Paired, IntervalMethodFollowsTheNumberOfFlips) {
  const PairedScores few = flips(100, 60, 5, 3), many = flips(200, 120, 20, 15),
                     none = flips(60, 30, 0, 0);
  EXPECT_EQ(paired_difference(few, resample_pairs(few, 1000, 1)).method, "Tango score");
  EXPECT_EQ(paired_difference(many, resample_pairs(many, 1000, 1)).method, "BCa bootstrap");
  const Difference nothing = paired_difference(none, resample_pairs(none, 1000, 1));
  EXPECT_EQ(nothing.estimate.value, 0);
  EXPECT_LT(nothing.estimate.interval->low, -0.05);
  const Recovery recovery = paired_recovery(none, resample_pairs(none, 1000, 1), 0);
  EXPECT_LT(recovery.ratio->interval->low, 0.9);
  EXPECT_GT(recovery.ratio->interval->high, 1.1);
}

TEST(Paired, RecoveryIsRefusedNearChance) {
  const PairedScores near = flips(60, 20, 2, 2), far = flips(60, 45, 2, 2);
  const Recovery refused = paired_recovery(near, resample_pairs(near, 1000, 1), 0.25);
  EXPECT_FALSE(refused.ratio);
  EXPECT_FALSE(refused.refusal.empty());
  const Recovery given = paired_recovery(far, resample_pairs(far, 1000, 1), 0.25);
  ASSERT_TRUE(given.ratio);
  EXPECT_DOUBLE_EQ(given.ratio->value, 1);
  ASSERT_TRUE(given.above_chance);
}

TEST(Paired, ClaimsNeedTheWholeInterval) {
  EXPECT_EQ(claim({-0.005, 0.004}, 0.01), Claim::equivalent);
  EXPECT_EQ(claim({-0.005, 0.04}, 0.01), Claim::non_inferior);
  EXPECT_EQ(claim({-0.02, 0.02}, 0.01), Claim::cannot_tell);
  EXPECT_EQ(claim({-0.03, -0.012}, 0.01), Claim::worse);
  EXPECT_EQ(claim({-0.01, 0.0}, 0.01), Claim::cannot_tell);
}

// The table of reliability: HumanEval 164 questions, GSM8K 1319.
TEST(Paired, MinimumDetectableIsTheFormulas) {
  EXPECT_NEAR(100 * minimum_detectable(8, 164), 4.8, 0.05);
  EXPECT_NEAR(100 * minimum_detectable(66, 1319), 1.7, 0.05);
  EXPECT_GT(minimum_detectable(0, 60), 0.05);
}

// Clusters move together: the interval must be wider than with independent questions.
TEST(Paired, ClustersWidenTheInterval) {
  PairedScores alone;
  for (int64_t i = 0; i < 120; ++i) {
    const double change = (i / 4) % 2 == 0 ? 0.2 : -0.15;
    alone.a.push_back(0.5);
    alone.b.push_back(0.5 + change);
  }
  PairedScores together = alone;
  for (int64_t i = 0; i < 120; ++i) together.clusters.push_back(i / 4);
  const Difference narrow_one = paired_difference(alone, resample_pairs(alone, 2000, 1));
  const Difference wide_one = paired_difference(together, resample_pairs(together, 2000, 1));
  EXPECT_EQ(wide_one.method, "BCa bootstrap over clusters");
  EXPECT_GT(wide_one.standard_error, 1.8 * narrow_one.standard_error);
  EXPECT_GT(wide_one.estimate.interval->high - wide_one.estimate.interval->low,
            1.8 * (narrow_one.estimate.interval->high - narrow_one.estimate.interval->low));
}

// Errors under a known truth. benchmarks/statistics_errors runs 10 000 studies of each; here fewer,
// so the bounds leave three standard errors of the simulation.
TEST(Paired, ErrorRatesAreWhatTheyClaim) {
  const auto slack = [](double rate, double studies) {
    return 3 * std::sqrt(rate * (1 - rate) / studies);
  };
  const ErrorRates score = simulate_binary(4000, 150, 0.1, 0, 0.05, 100, 1);  // Tango
  EXPECT_LE(score.mcnemar, 0.05 + slack(0.05, 4000));
  EXPECT_NEAR(score.interval, 0.05, 0.005 + slack(0.05, 4000));
  const ErrorRates bootstrap = simulate_binary(1500, 300, 0.2, 0, 0.05, 600, 2);  // BCa
  EXPECT_NEAR(bootstrap.interval, 0.05, 0.005 + slack(0.05, 1500));
  // A true loss of exactly the margin is called no worse in 2.5 % of studies.
  const ErrorRates edge = simulate_binary(4000, 150, 0.12, -0.05, 0.05, 100, 3);
  EXPECT_LE(edge.non_inferior, 0.025 + 0.0025 + slack(0.025, 4000));
  EXPECT_GT(edge.mcnemar, 0.05);
  // Of averages the interval may be too wide, never too short.
  EXPECT_LE(simulate_average(1500, 5, 60, 0.05, 100, 5), 0.055 + slack(0.05, 1500));
  // Lossless at a true loss of exactly the margin: one-sided 2.5 %, for one task and for averages.
  const ClaimRates one = simulate_claims(4000, 1, 150, 0.1, 0.05, 0.05, 100, 6);
  EXPECT_LE(one.lossless, 0.025 + 0.0025 + slack(0.025, 4000));
  EXPECT_LE(one.recovery, 0.055 + slack(0.05, 4000));
  const ClaimRates average = simulate_claims(1000, 5, 100, 0.1, 0.05, 0.05, 100, 7);
  EXPECT_LE(average.lossless, 0.025 + 0.0025 + slack(0.025, 1000));
  EXPECT_LE(average.recovery, 0.055 + slack(0.05, 1000));
  EXPECT_LE(simulate_family(1000, 20, 150, 0.1, 8), 0.05 + slack(0.05, 1000));
  EXPECT_NEAR(simulate_graded(1500, 120, 1, 600, 4), 0.05, 0.005 + slack(0.05, 1500));
}

}  // namespace
}  // namespace narrow::analyse
