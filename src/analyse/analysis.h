// From rows to figures and a recommendation. Pure: the same rows and options give the same bits.
// docs/metrics.md defines every figure. Shares and differences are fractions here (0.01 is a
// point); the report prints percent. `sources` are the first 12 hex digits of the cells behind a
// figure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "analyse/boards.h"
#include "analyse/paired.h"
#include "analyse/rows.h"
#include "analyse/statistics.h"

namespace narrow::analyse {

// What the deployment serves. Shares need not sum to 1.
struct Traffic {
  double sync_share = 1, async_share = 1;
  std::map<std::string, double> scenarios;  // weight of each; empty: all alike
};

// Limits a format must keep in every scenario of the mode; none: no limit.
struct Slo {
  std::optional<double> ttft_s, itl_s, e2e_s;
};

struct Options {
  std::string baseline = "bf16";
  std::optional<double> margin_points;  // none: the plan's, or 1 (point of accuracy per task)
  // "lossless" has no option: its margin is the plan's, fixed before the first row.
  double max_loss = 0.01;                // tolerable loss of average accuracy, relative
  std::optional<double> price_per_hour;  // USD; none: of the environment rows
  std::string hardware;                  // empty: of the environment rows
  Traffic traffic;
  Slo slo;
  int64_t resamples = 10000;
  uint64_t seed = 20241104;  // fixed, printed in the report
};

// The baseline against itself, evaluated a second time in another order and in other batches. What
// differs there is noise of the measurement; while it is there, or was not looked for, nothing is
// claimed of any format.
struct NoiseFloor {
  std::vector<RepeatCell> cells;
  std::vector<std::string> without;  // what the baseline answered only once, or not to the end
  int64_t rows = 0, differing = 0, scores = 0;
  std::string failure;  // why nothing may be claimed, as a clause; empty: the run passed
};

// "Lossless" is a claim of non-inferiority and nothing else: the format loses less than the margin,
// a share of the baseline's accuracy that the plan fixed, one-sided at 2.5 %.
struct LosslessClaim {
  bool shown = false;
  double bound =
      1;  // largest loss that the rows leave possible, a share; shown when below the margin
  std::string missing;  // why it is not shown, as a sentence; empty when it is
};

// One format on one task.
struct Score {
  std::string format;
  int64_t count = 0, truncated = 0;
  Estimate accuracy;
  double standard_error = 0;
  std::map<std::string, double> other_metrics;
  std::vector<std::string> sources;
};

// Whether the accuracy loss stays within Options::max_loss, by the average's interval.
enum class LossVerdict { within, exceeds, cannot_tell };

// One format against the baseline on one task.
struct Comparison {
  std::string format;
  int64_t pairs = 0, missing = 0;         // missing: questions only one of the two has
  double accuracy_a = 0, accuracy_b = 0;  // over the pairs
  Difference difference;
  int64_t lost = 0, gained = 0;  // answers that became wrong, right (score crosses one half)
  Interval lost_share, gained_share, flip_share;
  Estimate answer_changed;  // wrong to other wrong included
  std::string test;         // "exact McNemar", "sign flips"
  bool decidable = false;   // false: no outcome could have reached p < 0.05
  double p = 1, p_holm = 1;
  double detectable = 0;
  Claim claim = Claim::cannot_tell;
  LosslessClaim lossless;
  Recovery recovery;
  std::vector<std::string> sources;
};

struct TaskResult {
  std::string task, metric;
  double chance = 0;
  bool clustered = false;
  std::vector<Score> scores;            // in the order of formats
  std::vector<Comparison> comparisons;  // without the baseline
};

// Plain mean over the tasks that baseline and format share, as the study's tables average.
struct Average {
  std::string format;
  int64_t tasks = 0;
  double accuracy_a = 0, accuracy_b = 0;
  double detectable = 0;  // as a share of one, 80 % power
  bool complete = true;   // false: too many questions are in only one of the two to claim anything
  Estimate difference;
  Recovery recovery;  // ratio of the averages
  Claim claim = Claim::cannot_tell;
  LosslessClaim lossless;
  LossVerdict loss = LossVerdict::cannot_tell;
  int64_t pairs = 0, flips = 0;
};

struct Divergence {
  std::string format, text;
  int64_t windows = 0, positions = 0;
  Estimate mean_kl, top1_agreement;
  double kl_p99 = 0;
  double perplexity_base = 0, perplexity = 0;
  Estimate perplexity_ratio;
  std::string source;
};

struct TextSimilarity {
  std::string format;
  int64_t prompts = 0, identical = 0;
  Estimate rouge1, rouge2, rougeL;
  std::optional<Estimate> sts, bertscore;   // where every pair has it
  std::optional<double> median_divergence;  // token, of those that diverge
  std::vector<TextPair> samples;            // the pairs that diverge first, a few
  std::string source;
};

// Order statistics of a latency. p90 needs 100 requests, p99 1000; otherwise absent.
struct Latency {
  int64_t count = 0;
  double p50 = 0, low = 0, high = 0;  // low, high: range seen
  std::optional<Interval> p50_interval;
  std::optional<double> p90, p99;
};

struct ScenarioResult {
  std::string format, scenario;
  Mode mode = Mode::sync;
  int64_t requests = 0, failed = 0, warmup = 0;
  double prompt_tokens = 0, output_tokens = 0;  // means
  Latency e2e, ttft, itl;
  double queries_per_second = 0, output_tokens_per_second = 0;
  std::optional<double> queries_per_dollar;
  std::string source;
};

// Against the baseline over the scenarios both have. cost_reduction: the study's CR, mean of
// (latency × price) ratios; asynchronous: mean of throughput per price ratios.
struct CostResult {
  std::string format;
  Mode mode = Mode::sync;
  int64_t scenarios = 0, cheaper_in = 0;
  int64_t least_requests = 0;  // of any scenario
  Estimate cost_reduction;     // interval: requests resampled; asynchronous runs have none
  std::optional<double> dollars_per_1000;  // mean over the scenarios
};

struct ParetoPoint {
  std::string format;
  Mode mode = Mode::sync;
  double relative_cost = 1;  // 1 / cost reduction
  double accuracy = 0;       // average over the shared tasks
  // Of the cost ratio and of the difference to the baseline; none for the baseline itself.
  std::optional<Interval> cost_interval, accuracy_interval;
  bool on_front = false;
};

struct Recommendation {
  std::string traffic;                // "synchronous", "asynchronous", "mixed"
  std::optional<std::string> format;  // none: the rows support none
  bool supported = false;             // cost and loss both shown by the rows
  std::string headline;               // one sentence about the format, or why there is none
  std::vector<std::string> reasons;   // sentences, most important first
};

struct FormatSummary {
  std::string format;
  LossVerdict loss = LossVerdict::cannot_tell;
  std::optional<QuantizeCell> quantized;
};

struct Analysis {
  std::string study, model, baseline, hardware;
  double margin_points = 1, max_loss = 0.01;
  std::optional<double> lossless_margin;  // a share; none: the plan fixes none
  std::optional<double> price_per_hour;
  int64_t resamples = 0;
  uint64_t seed = 0;
  Json plan, model_fact;
  NoiseFloor noise;
  std::vector<FormatSummary> formats;  // baseline first
  std::vector<TaskResult> tasks;
  std::vector<Average> averages;
  std::vector<Board> boards;
  std::vector<Divergence> divergences;
  std::vector<TextSimilarity> texts;
  std::vector<ScenarioResult> scenarios;
  std::vector<CostResult> costs;
  std::vector<ParetoPoint> pareto;
  std::vector<Recommendation> recommendations;  // synchronous, asynchronous, mixed
  std::vector<EnvironmentCell> environments;
  Samples samples;  // to read; not in to_json
  std::vector<std::string> warnings;
};

// Throws Error::refused when the rows hold no cell of the baseline.
Analysis analyse(const StudyRows& rows, const Options& options = {});

// Every figure, for programs. Key order is fixed.
Json to_json(const Analysis& analysis);

}  // namespace narrow::analyse
