#include "analyse/statistics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "analyse/rng.h"

namespace narrow::analyse {
namespace {

// Σ c[i] xⁱ.
template <size_t N>
double polynomial(const double (&coefficients)[N], double x) {
  double sum = 0;
  for (size_t i = N; i-- > 0;) sum = sum * x + coefficients[i];
  return sum;
}

// Share of resamples below the estimate, ties counted half.
double share_below(std::span<const double> sorted, double estimate) {
  const auto low = std::lower_bound(sorted.begin(), sorted.end(), estimate) - sorted.begin();
  const auto high = std::upper_bound(sorted.begin(), sorted.end(), estimate) - sorted.begin();
  return static_cast<double>(low + high) / (2.0 * static_cast<double>(sorted.size()));
}

}  // namespace

double normal_cdf(double x) { return 0.5 * std::erfc(-x * M_SQRT1_2); }

double normal_quantile(double p) {
  // Wichura, Applied Statistics 37 (1988), algorithm AS 241, PPND16.
  static constexpr double kA[] = {3.3871328727963666080e0, 1.3314166789178437745e2,
                                  1.9715909503065514427e3, 1.3731693765509461125e4,
                                  4.5921953931549871457e4, 6.7265770927008700853e4,
                                  3.3430575583588128105e4, 2.5090809287301226727e3};
  static constexpr double kB[] = {1.0,
                                  4.2313330701600911252e1,
                                  6.8718700749205790830e2,
                                  5.3941960214247511077e3,
                                  2.1213794301586595867e4,
                                  3.9307895800092710610e4,
                                  2.8729085735721942674e4,
                                  5.2264952788528545610e3};
  static constexpr double kC[] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                                  5.76949722146069140550e0,  3.64784832476320460504e0,
                                  1.27045825245236838258e0,  2.41780725177450611770e-1,
                                  2.27238449892691845833e-2, 7.74545014278341407640e-4};
  static constexpr double kD[] = {1.0,
                                  2.05319162663775882187e0,
                                  1.67638483018380384940e0,
                                  6.89767334985100004550e-1,
                                  1.48103976427480074590e-1,
                                  1.51986665636164571966e-2,
                                  5.47593808499534494600e-4,
                                  1.05075007164441684324e-9};
  static constexpr double kE[] = {6.65790464350110377720e0,  5.46378491116411436990e0,
                                  1.78482653991729133580e0,  2.96560571828504891230e-1,
                                  2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                  2.71155556874348757815e-5, 2.01033439929228813265e-7};
  static constexpr double kF[] = {1.0,
                                  5.99832206555887937690e-1,
                                  1.36929880922735805310e-1,
                                  1.48753612908506148525e-2,
                                  7.86869131145613259100e-4,
                                  1.84631831751005468180e-5,
                                  1.42151175831644588870e-7,
                                  2.04426310338993978564e-15};
  const double centred = p - 0.5;
  if (std::abs(centred) <= 0.425) {
    const double r = 0.180625 - centred * centred;
    return centred * polynomial(kA, r) / polynomial(kB, r);
  }
  double r = std::sqrt(-std::log(centred < 0 ? p : 1 - p));
  double value;
  if (r <= 5) {
    r -= 1.6;
    value = polynomial(kC, r) / polynomial(kD, r);
  } else {
    r -= 5;
    value = polynomial(kE, r) / polynomial(kF, r);
  }
  return centred < 0 ? -value : value;
}

double mean(std::span<const double> values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double standard_error(std::span<const double> values) {
  if (values.size() < 2) return 0;
  const double centre = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - centre) * (value - centre);
  const auto count = static_cast<double>(values.size());
  return std::sqrt(squares / (count * (count - 1)));
}

double clustered_standard_error(std::span<const double> values, std::span<const int64_t> clusters) {
  if (values.size() < 2) return 0;
  const double centre = mean(values);
  std::map<int64_t, std::pair<double, double>> by_cluster;  // sum of deviations, of their squares
  for (size_t i = 0; i < values.size(); ++i) {
    const double deviation = values[i] - centre;
    auto& [sum, squares] = by_cluster[clusters[i]];
    sum += deviation;
    squares += deviation * deviation;
  }
  double products = 0;
  for (const auto& [label, sums] : by_cluster) products += sums.first * sums.first - sums.second;
  const auto count = static_cast<double>(values.size());
  const double independent = standard_error(values);
  return std::sqrt(std::max(0.0, independent * independent + products / (count * count)));
}

Interval wilson(double successes, int64_t count) {
  if (count == 0) return {0, 1};
  const auto n = static_cast<double>(count);
  const double share = successes / n, z2 = kZ95 * kZ95;
  const double centre = share + z2 / (2 * n);
  const double half = kZ95 * std::sqrt(share * (1 - share) / n + z2 / (4 * n * n));
  const double scale = 1 + z2 / n;
  // At the ends the formula gives 0 and 1 exactly, but for rounding.
  return {successes == 0 ? 0 : (centre - half) / scale,
          successes == n ? 1 : (centre + half) / scale};
}

double quantile_of_sorted(std::span<const double> sorted, double q) {
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(position);
  if (below + 1 >= sorted.size()) return sorted.back();
  const double share = position - static_cast<double>(below);
  return sorted[below] + share * (sorted[below + 1] - sorted[below]);
}

std::optional<Interval> quantile_interval(std::span<const double> sorted, double q) {
  const auto n = static_cast<double>(sorted.size());
  const double half = kZ95 * std::sqrt(n * q * (1 - q));
  const double low = std::ceil(n * q - half), high = std::ceil(n * q + half);  // ranks from 1
  if (low < 1 || high > n) return std::nullopt;
  return Interval{sorted[static_cast<size_t>(low) - 1], sorted[static_cast<size_t>(high) - 1]};
}

Interval bca(double estimate, std::vector<double>& resamples, std::span<const double> jackknife) {
  std::sort(resamples.begin(), resamples.end());
  if (resamples.front() == resamples.back()) return {resamples.front(), resamples.front()};
  const double centre = mean(jackknife);
  double squares = 0, cubes = 0;
  for (const double value : jackknife) {
    const double deviation = centre - value;
    squares += deviation * deviation;
    cubes += deviation * deviation * deviation;
  }
  const double acceleration = squares > 0 ? cubes / (6 * std::pow(squares, 1.5)) : 0;
  // An estimate outside all resamples would give an infinite correction.
  const double edge = 0.5 / static_cast<double>(resamples.size());
  const double bias = normal_quantile(std::clamp(share_below(resamples, estimate), edge, 1 - edge));
  const auto corrected = [&](double z) {
    const double shifted = bias + z;
    return normal_cdf(bias + shifted / (1 - acceleration * shifted));
  };
  return {quantile_of_sorted(resamples, corrected(-kZ95)),
          quantile_of_sorted(resamples, corrected(kZ95))};
}

Interval percentile_interval(std::vector<double>& resamples) {
  std::sort(resamples.begin(), resamples.end());
  return {quantile_of_sorted(resamples, 0.025), quantile_of_sorted(resamples, 0.975)};
}

std::vector<double> holm(std::span<const double> p_values) {
  std::vector<size_t> order(p_values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return p_values[a] < p_values[b]; });
  std::vector<double> adjusted(p_values.size());
  double running = 0;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    const auto left = static_cast<double>(order.size() - rank);
    running = std::max(running, std::min(1.0, left * p_values[order[rank]]));
    adjusted[order[rank]] = running;
  }
  return adjusted;
}

Estimate block_ratio(std::span<const double> numerators, std::span<const double> denominators,
                     int64_t resamples, uint64_t seed) {
  const auto blocks = static_cast<int64_t>(numerators.size());
  const double numerator = std::accumulate(numerators.begin(), numerators.end(), 0.0);
  const double denominator = std::accumulate(denominators.begin(), denominators.end(), 0.0);
  if (denominator == 0) return {};
  Estimate estimate{numerator / denominator, std::nullopt};
  if (blocks < 2) return estimate;

  Rng rng(seed);
  std::vector<double> ratios(static_cast<size_t>(resamples));
  for (double& ratio : ratios) {
    double top = 0, bottom = 0;
    for (int64_t i = 0; i < blocks; ++i) {
      const auto drawn = static_cast<size_t>(rng.below(blocks));
      top += numerators[drawn];
      bottom += denominators[drawn];
    }
    ratio = bottom > 0 ? top / bottom : estimate.value;
  }
  std::vector<double> jackknife(numerators.size());
  for (size_t i = 0; i < jackknife.size(); ++i) {
    const double bottom = denominator - denominators[i];
    jackknife[i] = bottom > 0 ? (numerator - numerators[i]) / bottom : estimate.value;
  }
  estimate.interval = bca(estimate.value, ratios, jackknife);
  // Blocks that are all alike leave nothing to resample: that is no certainty.
  if (estimate.interval->low == estimate.interval->high) estimate.interval.reset();
  return estimate;
}

}  // namespace narrow::analyse
