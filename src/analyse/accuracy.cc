#include "analyse/accuracy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "analyse/rng.h"

namespace narrow::analyse {
namespace {

constexpr double kMissingLimit = 0.005;  // share of questions; above, no claim is made
constexpr const char* kMissing = "more than 0.5 % of the questions are in only one of the two";
constexpr int64_t kUndecidable = 5;  // flips: 5 against 0 gives p = 0.0625

// A question is known by its cell's name, its subtask and its document number.
using Question = std::pair<std::string, int64_t>;

struct Answers {
  std::map<Question, const EvalItem*> items;
  std::vector<std::string> sources;
  bool finished = true;
};

// Guessing level: 1 over the number of choices, averaged; a generated answer is never guessed.
double chance_of(const Answers& answers) {
  double sum = 0;
  for (const auto& [question, item] : answers.items)
    if (item->choices > 1) sum += 1.0 / static_cast<double>(item->choices);
  return answers.items.empty() ? 0 : sum / static_cast<double>(answers.items.size());
}

bool binary(const std::vector<double>& scores) {
  return std::all_of(scores.begin(), scores.end(),
                     [](double score) { return score == 0 || score == 1; });
}

Score score_format(const std::string& format, const Answers& answers, const std::string& metric) {
  Score score;
  score.format = format;
  score.sources = answers.sources;
  score.count = static_cast<int64_t>(answers.items.size());
  std::vector<double> values;
  std::map<std::string, std::vector<double>> others;
  for (const auto& [question, item] : answers.items) {
    values.push_back(score_of(*item, metric));
    score.truncated += item->truncated;
    for (const auto& [name, value] : item->metrics)
      if (name != metric) others[name].push_back(value);
  }
  score.accuracy.value = mean(values);
  score.standard_error = standard_error(values);
  if (binary(values)) {
    score.accuracy.interval =
        wilson(std::round(score.accuracy.value * static_cast<double>(score.count)), score.count);
  } else if (score.count > 1) {
    const double half = kZ95 * score.standard_error;
    score.accuracy.interval = {score.accuracy.value - half, score.accuracy.value + half};
  }
  for (const auto& [name, list] : others) score.other_metrics[name] = mean(list);
  return score;
}

// The pairs of baseline and variant, with what is needed again for the averages.
struct Paired {
  PairedScores scores;
  Resamples resamples;
  int64_t missing = 0, changed = 0;
};

Paired pair_up(const Answers& base, const Answers& variant, const std::string& metric) {
  Paired paired;
  std::map<std::string, int64_t> labels;
  bool clustered = false;
  for (const auto& [question, item] : base.items) clustered |= !item->cluster.empty();
  for (const auto& [question, item] : base.items) {
    const auto other = variant.items.find(question);
    // A question whose prompt differs is another question.
    if (other == variant.items.end() || other->second->prompt_hash != item->prompt_hash) {
      ++paired.missing;
      continue;
    }
    paired.scores.a.push_back(score_of(*item, metric));
    paired.scores.b.push_back(score_of(*other->second, metric));
    paired.changed += answer_of(*item, metric) != answer_of(*other->second, metric);
    if (clustered) {
      const std::string label = item->cluster.empty()
                                    ? fmt::format("{}#{}", question.first, question.second)
                                    : question.first + "/" + item->cluster;
      paired.scores.clusters.push_back(
          labels.try_emplace(label, static_cast<int64_t>(labels.size())).first->second);
    }
  }
  for (const auto& [question, item] : variant.items)
    if (!base.items.contains(question)) ++paired.missing;
  return paired;
}

void test(Comparison& comparison, const PairedScores& scores, const Options& options,
          uint64_t seed) {
  const int64_t flips = comparison.lost + comparison.gained;
  if (scores.binary() && scores.clusters.empty()) {
    comparison.test = "exact McNemar";
    comparison.p = mcnemar_exact(comparison.lost, comparison.gained);
    comparison.decidable = flips > kUndecidable;
    return;
  }
  std::map<int64_t, double> sums;  // of a cluster, or of the question alone
  for (size_t i = 0; i < scores.a.size(); ++i)
    sums[scores.clusters.empty() ? static_cast<int64_t>(i) : scores.clusters[i]] +=
        scores.b[i] - scores.a[i];
  std::vector<double> differences;
  for (const auto& [label, sum] : sums)
    if (sum != 0) differences.push_back(sum);
  comparison.test = scores.clusters.empty() ? "sign flips" : "sign flips of clusters";
  comparison.decidable = static_cast<int64_t>(differences.size()) > kUndecidable;
  comparison.p = differences.empty() ? 1 : sign_flip_test(differences, options.resamples, seed);
}

// Whether the parts (tasks of an average, or one) show a loss below the plan's margin.
LosslessClaim lossless_claim(std::span<const Difference> tasks, std::span<const Estimate> baselines,
                             bool whole, const Recovery& recovery, const Bounds& bounds) {
  LosslessClaim claim;
  claim.bound = loss_bound(tasks, baselines);
  if (!bounds.silenced.empty())
    claim.missing = bounds.silenced;
  else if (!bounds.lossless_margin)
    claim.missing = "the plan fixes no margin";
  else if (!whole)
    claim.missing = kMissing;
  else if (!recovery.ratio)
    claim.missing = recovery.refusal;
  else if (claim.bound >= *bounds.lossless_margin)
    claim.missing = fmt::format("a loss of up to {:.2g} % is left possible", 100 * claim.bound);
  else
    claim.shown = true;
  return claim;
}

Comparison compare(const std::string& format, const Paired& paired, double chance,
                   const Bounds& bounds, const Options& options, uint64_t seed) {
  const PairedScores& scores = paired.scores;
  Comparison result;
  result.format = format;
  result.pairs = scores.size();
  result.missing = paired.missing;
  result.accuracy_a = mean(scores.a);
  result.accuracy_b = mean(scores.b);
  result.difference = paired_difference(scores, paired.resamples);
  for (size_t i = 0; i < scores.a.size(); ++i) {
    result.lost += scores.a[i] >= 0.5 && scores.b[i] < 0.5;
    result.gained += scores.a[i] < 0.5 && scores.b[i] >= 0.5;
  }
  const auto flips = static_cast<double>(result.lost + result.gained);
  result.lost_share = wilson(static_cast<double>(result.lost), result.pairs);
  result.gained_share = wilson(static_cast<double>(result.gained), result.pairs);
  result.flip_share = wilson(flips, result.pairs);
  const auto changed = static_cast<double>(paired.changed);
  result.answer_changed = {result.pairs > 0 ? changed / static_cast<double>(result.pairs) : 0,
                           wilson(changed, result.pairs)};
  test(result, scores, options, seed);
  // Graded or clustered scores: from the spread of the differences instead of the flips.
  result.detectable = scores.binary() && scores.clusters.empty()
                          ? minimum_detectable(result.lost + result.gained, result.pairs)
                          : std::min(1.0, 2.80 * result.difference.standard_error);
  const bool whole = static_cast<double>(paired.missing) <=
                     kMissingLimit * static_cast<double>(result.pairs + paired.missing);
  if (result.difference.estimate.interval && whole && bounds.silenced.empty())
    result.claim = claim(*result.difference.estimate.interval, bounds.margin);
  // The interval and the test must not contradict each other.
  if (result.claim == Claim::worse && !result.decidable) result.claim = Claim::cannot_tell;
  result.recovery = paired_recovery(scores, paired.resamples, chance);
  const Estimate baseline = baseline_mean(scores);
  result.lossless =
      lossless_claim({&result.difference, 1}, {&baseline, 1},
                     whole && result.difference.estimate.interval, result.recovery, bounds);
  return result;
}

// A pair of one format on one task, kept for the average.
struct Part {
  const Paired* paired;
  Difference difference;
  double chance;
};

// Of the averages. baselines: mean a of each task.
Recovery average_recovery(const Average& average, std::span<const Difference> differences,
                          std::vector<Estimate> baselines, double chance, double variance_a) {
  Recovery recovery;
  if (average.accuracy_a - chance <= 3 * std::sqrt(variance_a) || average.accuracy_a <= 0) {
    recovery.refusal = "the baseline's average is within three standard errors of chance";
    return recovery;
  }
  recovery.ratio = recovery_ratio(differences, baselines);
  if (chance <= 0) return recovery;
  for (Estimate& baseline : baselines) {
    baseline.value -= chance;
    if (baseline.interval)
      baseline.interval = {baseline.interval->low - chance, baseline.interval->high - chance};
  }
  recovery.above_chance = recovery_ratio(differences, baselines);
  return recovery;
}

Average average(const std::string& format, const std::vector<Part>& parts, const Bounds& bounds,
                double max_loss) {
  Average result;
  result.format = format;
  result.tasks = static_cast<int64_t>(parts.size());
  const auto tasks = static_cast<double>(parts.size());
  std::vector<Difference> differences;
  std::vector<Estimate> baselines;
  double chance = 0, variance_a = 0, variance_d = 0, missing = 0, total = 0;
  for (const Part& part : parts) {
    const PairedScores& scores = part.paired->scores;
    differences.push_back(part.difference);
    baselines.push_back(baseline_mean(scores));
    result.pairs += scores.size();
    for (size_t i = 0; i < scores.a.size(); ++i)
      result.flips += (scores.a[i] >= 0.5) != (scores.b[i] >= 0.5);
    missing += static_cast<double>(part.paired->missing);
    total += static_cast<double>(part.paired->missing + scores.size());
    result.accuracy_a += mean(scores.a) / tasks;
    result.accuracy_b += mean(scores.b) / tasks;
    chance += part.chance / tasks;
    const double error_a = scores.clusters.empty()
                               ? standard_error(scores.a)
                               : clustered_standard_error(scores.a, scores.clusters);
    // No flip seen is no spread of zero, but the smallest that the sample can detect.
    double error_d = part.difference.standard_error;
    if (error_d == 0) error_d = minimum_detectable(0, scores.size()) / 2.80;
    variance_a += error_a * error_a / (tasks * tasks);
    variance_d += error_d * error_d / (tasks * tasks);
  }
  result.detectable = std::min(1.0, 2.80 * std::sqrt(variance_d));
  result.difference = average_difference(differences);
  result.complete = missing <= kMissingLimit * total;
  if (result.complete && bounds.silenced.empty()) {
    result.claim = claim(*result.difference.interval, bounds.margin / 2);
    const Interval contrast = loss_contrast(differences, baselines, max_loss);
    if (result.accuracy_a > 0)
      result.loss = contrast.low > 0    ? LossVerdict::within
                    : contrast.high < 0 ? LossVerdict::exceeds
                                        : LossVerdict::cannot_tell;
  }
  result.recovery = average_recovery(result, differences, baselines, chance, variance_a);
  result.lossless =
      lossless_claim(differences, baselines, result.complete, result.recovery, bounds);
  return result;
}

}  // namespace

std::string headline_metric(const EvalItem& item) {
  for (const char* name :
       {"acc_norm", "acc", "mc2", "exact_match,strict-match", "exact_match,strict_match",
        "exact_match", "prompt_level_strict_acc", "pass@1"})
    if (item.metrics.contains(name)) return name;
  return item.metrics.begin()->first;
}

double score_of(const EvalItem& item, const std::string& metric) {
  const auto found = item.metrics.find(metric);
  return found == item.metrics.end() ? 0 : found->second;
}

std::string answer_of(const EvalItem& item, const std::string& metric) {
  const size_t comma = metric.find(',');
  const auto found = item.answers.find(comma == std::string::npos ? "" : metric.substr(comma + 1));
  if (found != item.answers.end()) return found->second;
  return item.answers.empty() ? "" : item.answers.begin()->second;
}

AccuracyResults analyse_accuracy(const StudyRows& rows, const std::vector<std::string>& formats,
                                 const Bounds& bounds, const Options& options) {
  std::vector<std::string> order;  // of tasks, as they appear
  std::map<std::string, std::map<std::string, Answers>> by_task;
  for (const EvalCell& cell : rows.evals) {
    if (std::find(order.begin(), order.end(), cell.task) == order.end()) order.push_back(cell.task);
    Answers& answers = by_task[cell.task][cell.source.format];
    answers.sources.push_back(cell.source.id);
    answers.finished &= cell.source.finished;
    for (const EvalItem& item : cell.items)
      answers.items[{cell.source.name + "/" + item.subtask, item.doc_id}] = &item;
  }

  AccuracyResults results;
  std::map<std::string, std::vector<Paired>> kept;  // by format; pointers into it are taken last
  std::map<std::string, std::vector<Difference>> differences;
  std::map<std::string, std::vector<double>> chances;
  for (const std::string& task : order) {
    auto& answers = by_task[task];
    const auto base = answers.find(options.baseline);
    TaskResult result;
    result.task = task;
    for (const auto& [format, list] : answers)
      if (!list.items.empty()) result.metric = headline_metric(*list.items.begin()->second);
    if (base != answers.end() && !base->second.items.empty()) {
      result.chance = chance_of(base->second);
      result.metric = headline_metric(*base->second.items.begin()->second);
    }
    for (const std::string& format : formats) {
      const auto found = answers.find(format);
      if (found == answers.end() || found->second.items.empty()) continue;
      if (!found->second.finished)
        results.warnings.push_back(
            fmt::format("{} on {} is unfinished: its figures cover {} questions.", task, format,
                        found->second.items.size()));
      result.scores.push_back(score_format(format, found->second, result.metric));
      if (format == options.baseline || base == answers.end()) continue;
      Paired paired = pair_up(base->second, found->second, result.metric);
      if (paired.scores.size() == 0) {
        results.warnings.push_back(
            fmt::format("{}: {} and {} share no question, nothing is compared.", task,
                        options.baseline, format));
        continue;
      }
      const uint64_t seed = seed_for(options.seed, task);
      paired.resamples = resample_pairs(paired.scores, options.resamples, seed);
      result.clustered |= !paired.scores.clusters.empty();
      Comparison comparison = compare(format, paired, result.chance, bounds, options, seed);
      comparison.sources = base->second.sources;
      comparison.sources.insert(comparison.sources.end(), found->second.sources.begin(),
                                found->second.sources.end());
      if (comparison.missing > 0)
        results.warnings.push_back(
            fmt::format("{}: {} questions are in only one of {} and {} and leave the comparison.",
                        task, comparison.missing, options.baseline, format));
      result.comparisons.push_back(std::move(comparison));
      differences[format].push_back(result.comparisons.back().difference);
      kept[format].push_back(std::move(paired));
      chances[format].push_back(result.chance);
    }
    results.tasks.push_back(std::move(result));
  }

  // One family: every format on every task of this model.
  std::vector<double> p_values;
  for (const TaskResult& task : results.tasks)
    for (const Comparison& comparison : task.comparisons) p_values.push_back(comparison.p);
  const std::vector<double> adjusted = holm(p_values);
  size_t next = 0;
  for (TaskResult& task : results.tasks)
    for (Comparison& comparison : task.comparisons) comparison.p_holm = adjusted[next++];

  for (const std::string& format : formats) {
    const auto found = kept.find(format);
    if (found == kept.end()) continue;
    std::vector<Part> parts;
    for (size_t i = 0; i < found->second.size(); ++i)
      parts.push_back({&found->second[i], differences[format][i], chances[format][i]});
    results.averages.push_back(average(format, parts, bounds, options.max_loss));
  }
  return results;
}

}  // namespace narrow::analyse
