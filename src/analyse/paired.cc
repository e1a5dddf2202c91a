#include "analyse/paired.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "analyse/rng.h"

namespace narrow::analyse {
namespace {

constexpr int64_t kFewFlips = 30;      // below: the bootstrap of 0/1 pairs is too short
constexpr double kChanceDistance = 3;  // standard errors
constexpr const char* kTango = "Tango score";

// Sums over the units that are drawn together: a question, or a cluster of them.
struct Units {
  std::vector<double> a, b, count;
};

Units units_of(const PairedScores& scores) {
  if (scores.clusters.empty())
    return {scores.a, scores.b, std::vector<double>(scores.a.size(), 1.0)};
  std::map<int64_t, size_t> places;
  Units units;
  for (size_t i = 0; i < scores.a.size(); ++i) {
    const auto [place, fresh] = places.try_emplace(scores.clusters[i], units.a.size());
    if (fresh) {
      units.a.push_back(0);
      units.b.push_back(0);
      units.count.push_back(0);
    }
    units.a[place->second] += scores.a[i];
    units.b[place->second] += scores.b[i];
    units.count[place->second] += 1;
  }
  return units;
}

using Statistic = std::function<double(double mean_a, double mean_b)>;

// BCa interval of a function of the two means.
Interval interval_of(const PairedScores& scores, const Resamples& resamples,
                     const Statistic& statistic) {
  const Units units = units_of(scores);
  double total_a = 0, total_b = 0, total = 0;
  for (size_t i = 0; i < units.a.size(); ++i) {
    total_a += units.a[i];
    total_b += units.b[i];
    total += units.count[i];
  }
  const double estimate = statistic(total_a / total, total_b / total);
  std::vector<double> values(resamples.mean_a.size());
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = statistic(resamples.mean_a[i], resamples.mean_b[i]);
  std::vector<double> jackknife(units.a.size(), estimate);
  for (size_t i = 0; i < units.a.size(); ++i) {
    const double left = total - units.count[i];
    if (left > 0)
      jackknife[i] = statistic((total_a - units.a[i]) / left, (total_b - units.b[i]) / left);
  }
  return bca(estimate, values, jackknife);
}

// Where a function that rises from below 0 at `low` to above 0 at `high` is 0; `high` where it
// never is above.
template <class Function>
double crossing(double low, double high, const Function& function) {
  for (int step = 0; step < 80; ++step) {
    const double middle = (low + high) / 2;
    (function(middle) > 0 ? high : low) = middle;
  }
  return high;
}

}  // namespace

bool PairedScores::binary() const {
  const auto is_binary = [](double score) { return score == 0 || score == 1; };
  return std::all_of(a.begin(), a.end(), is_binary) && std::all_of(b.begin(), b.end(), is_binary);
}

double mcnemar_exact(int64_t lost, int64_t gained) {
  const int64_t flips = lost + gained;
  if (flips == 0) return 1;
  double sum = 0;
  for (int64_t i = 0; i <= std::min(lost, gained); ++i)
    sum += std::exp(std::lgamma(flips + 1) - std::lgamma(i + 1) - std::lgamma(flips - i + 1) -
                    static_cast<double>(flips) * M_LN2);
  return std::min(1.0, 2 * sum);
}

double sign_flip_test(std::span<const double> differences, int64_t resamples, uint64_t seed) {
  double observed = 0, scale = 0;
  for (const double difference : differences) {
    observed += difference;
    scale += std::abs(difference);
  }
  // Sums that are equal up to rounding are as extreme as the sample.
  const double limit = std::abs(observed) - 1e-12 * scale;
  Rng rng(seed);
  int64_t extreme = 1;
  for (int64_t resample = 0; resample < resamples; ++resample) {
    double sum = 0;
    uint64_t bits = 0;
    for (size_t i = 0; i < differences.size(); ++i) {
      if (i % 64 == 0) bits = rng.next();
      sum += (bits & 1) != 0 ? differences[i] : -differences[i];
      bits >>= 1;
    }
    if (std::abs(sum) >= limit) ++extreme;
  }
  return static_cast<double>(extreme) / static_cast<double>(resamples + 1);
}

Interval tango(int64_t lost, int64_t gained, int64_t count) {
  const auto n = static_cast<double>(count);
  const auto b = static_cast<double>(gained), c = static_cast<double>(lost);
  // Score statistic of "the true difference is delta", with the restricted maximum likelihood
  // estimate of the share that is lost (Tango, Statistics in Medicine 17 (1998) 891).
  const auto score = [&](double delta) {
    const double linear = -b - c + (2 * n - b + c) * delta;
    const double constant = -c * delta * (1 - delta);
    const double root = std::sqrt(std::max(0.0, linear * linear - 8 * n * constant));
    const double share = (root - linear) / (4 * n);
    const double variance = n * (2 * share + delta * (1 - delta));
    const double distance = b - c - n * delta;
    if (variance <= 0) return distance == 0 ? 0.0 : std::copysign(HUGE_VAL, distance);
    return distance / std::sqrt(variance);
  };
  // The score falls as delta rises.
  const auto solve = [&](double target) {
    double low = -1, high = 1;
    for (int step = 0; step < 100; ++step) {
      const double middle = (low + high) / 2;
      (score(middle) > target ? low : high) = middle;
    }
    return (low + high) / 2;
  };
  return {solve(kZ95), solve(-kZ95)};
}

Resamples resample_pairs(const PairedScores& scores, int64_t resamples, uint64_t seed) {
  const Units units = units_of(scores);
  const auto count = static_cast<int64_t>(units.a.size());
  Resamples result;
  if (count == 0) return result;
  Rng rng(seed);
  result.mean_a.resize(static_cast<size_t>(resamples));
  result.mean_b.resize(static_cast<size_t>(resamples));
  for (size_t resample = 0; resample < result.mean_a.size(); ++resample) {
    double a = 0, b = 0, questions = 0;
    for (int64_t i = 0; i < count; ++i) {
      const auto drawn = static_cast<size_t>(rng.below(count));
      a += units.a[drawn];
      b += units.b[drawn];
      questions += units.count[drawn];
    }
    result.mean_a[resample] = a / questions;
    result.mean_b[resample] = b / questions;
  }
  return result;
}

Difference paired_difference(const PairedScores& scores, const Resamples& resamples) {
  Difference result;
  std::vector<double> differences(scores.a.size());
  int64_t lost = 0, gained = 0;
  for (size_t i = 0; i < differences.size(); ++i) {
    differences[i] = scores.b[i] - scores.a[i];
    lost += differences[i] < 0;
    gained += differences[i] > 0;
  }
  result.estimate.value = mean(differences);
  result.standard_error = scores.clusters.empty()
                              ? standard_error(differences)
                              : clustered_standard_error(differences, scores.clusters);
  if (scores.size() < 2) return result;
  if (scores.clusters.empty() && scores.binary() && lost + gained < kFewFlips) {
    result.method = kTango;
    result.estimate.interval = tango(lost, gained, scores.size());
  } else {
    result.method = scores.clusters.empty() ? "BCa bootstrap" : "BCa bootstrap over clusters";
    result.estimate.interval =
        interval_of(scores, resamples, [](double a, double b) { return b - a; });
  }
  return result;
}

Estimate average_difference(std::span<const Difference> tasks) {
  double sum = 0, below = 0, above = 0;
  for (const Difference& task : tasks) {
    // A single question bounds nothing.
    const Interval interval = task.estimate.interval.value_or(Interval{-1, 1});
    sum += task.estimate.value;
    below += (task.estimate.value - interval.low) * (task.estimate.value - interval.low);
    above += (interval.high - task.estimate.value) * (interval.high - task.estimate.value);
  }
  const auto count = static_cast<double>(tasks.size());
  return {sum / count,
          Interval{(sum - std::sqrt(below)) / count, (sum + std::sqrt(above)) / count}};
}

Interval loss_contrast(std::span<const Difference> tasks, std::span<const Estimate> baselines,
                       double loss) {
  const Estimate difference = average_difference(tasks);
  double mean_a = 0, below = 0, above = 0;
  for (const Estimate& baseline : baselines) {
    const Interval interval = baseline.interval.value_or(Interval{0, 1});
    mean_a += baseline.value;
    below += (baseline.value - interval.low) * (baseline.value - interval.low);
    above += (interval.high - baseline.value) * (interval.high - baseline.value);
  }
  const auto count = static_cast<double>(baselines.size());
  mean_a /= count;
  // The two parts are correlated (what a lost answer takes from the difference it had given to a),
  // which only makes the truth narrower; loss is small, and so is what this gives away.
  const auto distance = [&](double of_difference, double squares) {
    return std::hypot(of_difference, loss * std::sqrt(squares) / count);
  };
  const double value = difference.value + loss * mean_a;
  return {value - distance(difference.value - difference.interval->low, below),
          value + distance(difference.interval->high - difference.value, above)};
}

double loss_bound(std::span<const Difference> tasks, std::span<const Estimate> baselines) {
  if (loss_contrast(tasks, baselines, 1).low <= 0) return 1;
  return crossing(0, 1, [&](double loss) { return loss_contrast(tasks, baselines, loss).low; });
}

Estimate recovery_ratio(std::span<const Difference> tasks, std::span<const Estimate> baselines) {
  double a = 0, difference = 0;
  for (const Estimate& baseline : baselines) a += baseline.value;
  for (const Difference& task : tasks) difference += task.estimate.value;
  if (a <= 0) return {0, std::nullopt};
  constexpr double kMost = 100;  // times the baseline; beyond it there is no bound
  const auto end = [&](double Interval::*which) {
    return 1 - crossing(-kMost, kMost,
                        [&](double loss) { return loss_contrast(tasks, baselines, loss).*which; });
  };
  return {(a + difference) / a, Interval{std::max(0.0, end(&Interval::low)), end(&Interval::high)}};
}

Estimate baseline_mean(const PairedScores& scores) {
  Estimate result{mean(scores.a), std::nullopt};
  if (scores.clusters.empty() && scores.binary()) {
    result.interval =
        wilson(std::round(result.value * static_cast<double>(scores.size())), scores.size());
  } else if (scores.size() > 1) {
    const double half =
        kZ95 * (scores.clusters.empty() ? standard_error(scores.a)
                                        : clustered_standard_error(scores.a, scores.clusters));
    result.interval = {result.value - half, result.value + half};
  }
  return result;
}

Recovery paired_recovery(const PairedScores& scores, const Resamples& resamples, double chance) {
  Recovery result;
  if (scores.size() < 2) {
    result.refusal = "fewer than two questions";
    return result;
  }
  const double a = mean(scores.a), b = mean(scores.b);
  const double error = scores.clusters.empty()
                           ? standard_error(scores.a)
                           : clustered_standard_error(scores.a, scores.clusters);
  if (a <= 0 || a - chance <= kChanceDistance * error) {
    result.refusal = "the baseline is within three standard errors of chance";
    return result;
  }
  const Difference difference = paired_difference(scores, resamples);
  const bool few = difference.method == kTango;
  const auto ratio = [&](double from) {
    if (few) {
      Estimate above = baseline_mean(scores);
      above.value -= from;
      above.interval = {above.interval->low - from, above.interval->high - from};
      return recovery_ratio({&difference, 1}, {&above, 1});
    }
    // A resample at chance has no ratio; it stands for the far end.
    Estimate estimate{(b - from) / (a - from),
                      interval_of(scores, resamples, [from](double mean_a, double mean_b) {
                        return mean_a > from ? (mean_b - from) / (mean_a - from) : 0.0;
                      })};
    // Without any change resamples have nothing to vary: that is no certainty.
    if (estimate.interval->low == estimate.interval->high) estimate.interval.reset();
    return estimate;
  };
  result.ratio = ratio(0);
  if (chance > 0) result.above_chance = ratio(chance);
  return result;
}

double minimum_detectable(int64_t flips, int64_t count) {
  if (count == 0) return 1;
  const auto n = static_cast<double>(count);
  const double share = flips > 0 ? static_cast<double>(flips) / n : std::min(1.0, 3 / n);
  return std::min(1.0, 2.80 * std::sqrt(share / n));
}

Claim claim(const Interval& difference, double margin) {
  if (difference.high < -margin) return Claim::worse;
  if (difference.low <= -margin) return Claim::cannot_tell;
  return difference.high < margin ? Claim::equivalent : Claim::non_inferior;
}

std::string to_string(Claim claim) {
  switch (claim) {
    case Claim::equivalent:
      return "equivalent within the margin";
    case Claim::non_inferior:
      return "no worse than the margin";
    case Claim::worse:
      return "worse than the margin";
    case Claim::cannot_tell:
      return "cannot tell";
  }
  return {};
}

}  // namespace narrow::analyse
