// Studies drawn under a known truth, to see how often a rule errs. Used by tests and by
// benchmarks/statistics_errors.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "analyse/paired.h"
#include "analyse/rng.h"
#include "analyse/statistics.h"

namespace narrow::analyse {

// Shares of studies.
struct ErrorRates {
  double mcnemar = 0;       // exact test rejects
  double interval = 0;      // 95 % interval misses the true difference
  double non_inferior = 0;  // claimed
};

// Draws `studies` of `questions` 0/1 questions, a share `flips` of which changes; the true
// difference is `difference` (gained minus lost).
inline ErrorRates simulate_binary(int64_t studies, int64_t questions, double flips,
                                  double difference, double margin, int64_t resamples,
                                  uint64_t seed) {
  Rng rng(seed);
  ErrorRates rates;
  const double lost = (flips - difference) / 2, gained = (flips + difference) / 2;
  for (int64_t study = 0; study < studies; ++study) {
    PairedScores scores;
    int64_t losses = 0, gains = 0;
    for (int64_t i = 0; i < questions; ++i) {
      const double drawn = rng.uniform();
      const bool is_lost = drawn < lost, is_gained = !is_lost && drawn < lost + gained;
      const double both = rng.uniform() < 0.6 ? 1 : 0;
      scores.a.push_back(is_lost ? 1 : is_gained ? 0 : both);
      scores.b.push_back(is_lost ? 0 : is_gained ? 1 : both);
      losses += is_lost;
      gains += is_gained;
    }
    const Difference found =
        paired_difference(scores, resample_pairs(scores, resamples, rng.next()));
    const Interval interval = *found.estimate.interval;
    rates.mcnemar += mcnemar_exact(losses, gains) < 0.05;
    rates.interval += interval.low > difference || interval.high < difference;
    const Claim said = claim(interval, margin);
    rates.non_inferior += said == Claim::non_inferior || said == Claim::equivalent;
  }
  const auto count = static_cast<double>(studies);
  return {rates.mcnemar / count, rates.interval / count, rates.non_inferior / count};
}

// Averages over `tasks` tasks like those above, without a true difference: how often the interval
// of the average misses 0.
inline double simulate_average(int64_t studies, int64_t tasks, int64_t questions, double flips,
                               int64_t resamples, uint64_t seed) {
  Rng rng(seed);
  double missed = 0;
  for (int64_t study = 0; study < studies; ++study) {
    std::vector<Difference> differences;
    for (int64_t task = 0; task < tasks; ++task) {
      PairedScores scores;
      for (int64_t i = 0; i < questions; ++i) {
        const double drawn = rng.uniform();
        scores.a.push_back(drawn < flips / 2 || drawn > 0.6 ? 1 : 0);
        scores.b.push_back((drawn >= flips / 2 && drawn < flips) || drawn > 0.6 ? 1 : 0);
      }
      differences.push_back(
          paired_difference(scores, resample_pairs(scores, resamples, rng.next())));
    }
    const Interval interval = *average_difference(differences).interval;
    missed += interval.low > 0 || interval.high < 0;
  }
  return missed / static_cast<double>(studies);
}

// What the claims about losses do under a known truth: each study has `tasks` tasks of `questions`
// 0/1 questions, on which the format loses the share `loss` of the baseline's accuracy, one task
// as much as the other.
struct ClaimRates {
  double lossless = 0;  // shown at the margin `margin`
  double recovery = 0;  // the 95 % interval of the recovery misses 1 − loss
};
inline ClaimRates simulate_claims(int64_t studies, int64_t tasks, int64_t questions, double flips,
                                  double loss, double margin, int64_t resamples, uint64_t seed) {
  constexpr double kAccuracy = 0.6;
  Rng rng(seed);
  ClaimRates rates;
  const double lost = (flips + loss * kAccuracy) / 2, gained = flips - lost;
  for (int64_t study = 0; study < studies; ++study) {
    std::vector<Difference> differences;
    std::vector<Estimate> baselines;
    for (int64_t task = 0; task < tasks; ++task) {
      PairedScores scores;
      for (int64_t i = 0; i < questions; ++i) {
        const bool right = rng.uniform() < kAccuracy;
        const double turn = right ? lost / kAccuracy : gained / (1 - kAccuracy);
        scores.a.push_back(right);
        scores.b.push_back((rng.uniform() < turn) != right);
      }
      differences.push_back(
          paired_difference(scores, resample_pairs(scores, resamples, rng.next())));
      baselines.push_back(baseline_mean(scores));
    }
    rates.lossless += loss_bound(differences, baselines) < margin;
    const Interval interval = *recovery_ratio(differences, baselines).interval;
    rates.recovery += interval.low > 1 - loss || interval.high < 1 - loss;
  }
  const auto count = static_cast<double>(studies);
  return {rates.lossless / count, rates.recovery / count};
}

// A family of `tests` exact tests without any true difference: how often Holm's adjustment lets one
// of them below 0.05. Each rejects alone in a little under 5 %.
inline double simulate_family(int64_t studies, int64_t tests, int64_t questions, double flips,
                              uint64_t seed) {
  Rng rng(seed);
  double rejected = 0;
  for (int64_t study = 0; study < studies; ++study) {
    std::vector<double> p_values;
    for (int64_t test = 0; test < tests; ++test) {
      int64_t lost = 0, gained = 0;
      for (int64_t i = 0; i < questions; ++i) {
        const double drawn = rng.uniform();
        lost += drawn < flips / 2;
        gained += drawn >= flips / 2 && drawn < flips;
      }
      p_values.push_back(mcnemar_exact(lost, gained));
    }
    const std::vector<double> adjusted = holm(p_values);
    rejected += *std::min_element(adjusted.begin(), adjusted.end()) < 0.05;
  }
  return rejected / static_cast<double>(studies);
}

// The test by sign flips on differences of `questions` graded scores without a true difference.
inline double simulate_sign_flips(int64_t studies, int64_t questions, int64_t resamples,
                                  uint64_t seed) {
  Rng rng(seed);
  double rejected = 0;
  for (int64_t study = 0; study < studies; ++study) {
    std::vector<double> differences;
    for (int64_t i = 0; i < questions; ++i) differences.push_back(rng.uniform() - 0.5);
    rejected += sign_flip_test(differences, resamples, rng.next()) < 0.05;
  }
  return rejected / static_cast<double>(studies);
}

// Graded scores in clusters of `cluster` questions (1: independent) whose differences share half
// their spread; the true difference is 0. Answers how often the interval misses it.
inline double simulate_graded(int64_t studies, int64_t questions, int64_t cluster,
                              int64_t resamples, uint64_t seed) {
  Rng rng(seed);
  double missed = 0;
  for (int64_t study = 0; study < studies; ++study) {
    PairedScores scores;
    double shared = 0;
    for (int64_t i = 0; i < questions; ++i) {
      if (i % cluster == 0) shared = rng.uniform() - 0.5;
      const double change = (cluster > 1 ? 0.5 * shared : 0) + 0.5 * (rng.uniform() - 0.5);
      scores.a.push_back(0.5 - change / 2);
      scores.b.push_back(0.5 + change / 2);
      if (cluster > 1) scores.clusters.push_back(i / cluster);
    }
    const Difference found =
        paired_difference(scores, resample_pairs(scores, resamples, rng.next()));
    missed += found.estimate.interval->low > 0 || found.estimate.interval->high < 0;
  }
  return missed / static_cast<double>(studies);
}

}  // namespace narrow::analyse
