// Two formats on the same questions. Everything here is paired by question: the difference, its
// interval, the test, the recovery, and what the sample could have detected.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "analyse/statistics.h"

namespace narrow::analyse {

// Scores in [0, 1] of baseline (a) and variant (b) on the same questions. clusters: label of each
// question's cluster, or empty when the questions are independent.
struct PairedScores {
  std::vector<double> a, b;
  std::vector<int64_t> clusters;

  int64_t size() const { return static_cast<int64_t>(a.size()); }
  bool binary() const;  // every score is 0 or 1
};

// Exact two-sided McNemar: lost = a right and b wrong, gained = the reverse.
double mcnemar_exact(int64_t lost, int64_t gained);
// Two-sided test of mean difference 0 by flipping the sign of each difference (or each cluster's
// sum); p counts the sample itself, so it is never 0.
double sign_flip_test(std::span<const double> differences, int64_t resamples, uint64_t seed);

// Tango's score interval of (gained − lost) / count.  REQUIRES: count > 0.
Interval tango(int64_t lost, int64_t gained, int64_t count);

// Resamples of questions (or clusters): mean of a and of b in each.
struct Resamples {
  std::vector<double> mean_a, mean_b;
};
Resamples resample_pairs(const PairedScores& scores, int64_t resamples, uint64_t seed);

// Mean of b − a. The interval is BCa over resampled pairs; when both are 0/1, independent, and
// fewer than 30 questions flip, Tango's score interval instead, for a bootstrap of so few changes
// is too short.
struct Difference {
  Estimate estimate;
  double standard_error = 0;
  std::string method;  // "BCa bootstrap", "Tango score", "BCa bootstrap over clusters"
};
Difference paired_difference(const PairedScores& scores, const Resamples& resamples);

// Plain mean of the differences of several tasks. The interval is put together from theirs: the
// distances to the ends add in squares (Zou and Donner's recovery of variances), so it is as wide
// as small samples make it.  REQUIRES: not empty.
Estimate average_difference(std::span<const Difference> tasks);

// Interval of mean b − (1 − loss) mean a, averaged over tasks: above 0, the format loses less than
// the share `loss` of the baseline's average; below 0, more. It is the difference plus loss × mean
// a, put together from both intervals as average_difference does. baselines: mean a of each task.
// REQUIRES: not empty, as many baselines as tasks.
Interval loss_contrast(std::span<const Difference> tasks, std::span<const Estimate> baselines,
                       double loss);

// The largest share of the baseline's average that the same intervals leave possible to have lost:
// the smallest loss whose contrast lies above 0, at most 1. Never negative.
double loss_bound(std::span<const Difference> tasks, std::span<const Estimate> baselines);

// Mean a with its interval: Wilson's for independent 0/1 scores, 1.96 (clustered) standard errors
// otherwise.
Estimate baseline_mean(const PairedScores& scores);

// mean b / mean a, averaged over the tasks above and below the line. The interval holds the ratios
// r whose contrast mean b − r mean a has an interval around 0 (as Fieller's does): a loss below a
// margin is shown exactly when its lower end is above 1 − margin. No interval when mean a is 0.
// REQUIRES: as loss_contrast.
Estimate recovery_ratio(std::span<const Difference> tasks, std::span<const Estimate> baselines);

// mean b / mean a, interval inside the resamples, or recovery_ratio's where the difference has
// Tango's interval. No value when mean a is within three standard
// errors of `chance`, where the ratio says nothing.
struct Recovery {
  std::optional<Estimate> ratio;
  std::optional<Estimate> above_chance;  // (b − chance) / (a − chance); only where chance > 0
  std::string refusal;                   // why there is none, as a sentence
};
Recovery paired_recovery(const PairedScores& scores, const Resamples& resamples, double chance);

// Smallest true difference (as a share) that n pairs of which `flips` change detect with 80 % power
// at 5 %: 2.80 sqrt(f / n). With no flips seen f is taken as 3 / n, the upper end of what they
// allow.
double minimum_detectable(int64_t flips, int64_t count);

// What the interval of a difference lets one say, with a margin fixed before the run. Not finding a
// difference is never called "same".
enum class Claim { equivalent, non_inferior, worse, cannot_tell };
// worse: the whole interval lies below −margin.
Claim claim(const Interval& difference, double margin);
std::string to_string(Claim claim);

}  // namespace narrow::analyse
