// Statistics of single samples: intervals for shares, means and quantiles, families of tests.
// Pure functions on plain numbers; docs/metrics.md defines each, tests/goldens/analyse holds them
// to scipy and statsmodels. 95 % two-sided throughout.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace narrow::analyse {

constexpr double kZ95 = 1.959963984540054;  // normal quantile at 0.975

struct Interval {
  double low = 0, high = 0;
  bool operator==(const Interval&) const = default;
};

struct Estimate {
  double value = 0;
  std::optional<Interval> interval;  // none where the data cannot give one
  bool operator==(const Estimate&) const = default;
};

// Standard normal. quantile: relative error below 1e-15 (Wichura's AS 241).  REQUIRES: 0 < p < 1.
double normal_cdf(double x);
double normal_quantile(double p);

// 0 for an empty span.
double mean(std::span<const double> values);
// Standard error of the mean; 0 for fewer than two values.
double standard_error(std::span<const double> values);
// The same with dependence inside clusters (equal labels): adds the products of different members.
double clustered_standard_error(std::span<const double> values, std::span<const int64_t> clusters);

// Share of successes.  REQUIRES: 0 <= successes <= count. count = 0: the whole [0, 1].
Interval wilson(double successes, int64_t count);

// Linear interpolation between order statistics (numpy's default).  REQUIRES: not empty, sorted.
double quantile_of_sorted(std::span<const double> sorted, double q);
// Between the order statistics of rank nq ± 1.96 sqrt(nq(1 − q)), rounded up; none when a rank
// falls outside the sample.  REQUIRES: sorted.
std::optional<Interval> quantile_interval(std::span<const double> sorted, double q);

// Interval of an estimate from its resamples: bias-corrected and accelerated (BCa). jackknife:
// the estimate with each unit left out. `resamples` is sorted in place. Collapses to the estimate
// when nothing varies.
Interval bca(double estimate, std::vector<double>& resamples, std::span<const double> jackknife);
// Plain 2.5 % and 97.5 % quantiles. Sorts in place.
Interval percentile_interval(std::vector<double>& resamples);

// Holm's step-down adjustment: p-values of one family in, adjusted in the same order out.
std::vector<double> holm(std::span<const double> p_values);

// Mean of ratio sum(numerators) / sum(denominators) over blocks (windows of a text) with a BCa
// interval by resampling blocks. With fewer than two blocks, or blocks all alike: no interval.
Estimate block_ratio(std::span<const double> numerators, std::span<const double> denominators,
                     int64_t resamples, uint64_t seed);

}  // namespace narrow::analyse
