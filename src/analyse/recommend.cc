#include "analyse/recommend.h"

#include <fmt/format.h>

#include <algorithm>

#include "analyse/cost.h"

namespace narrow::analyse {
namespace {

// A format for one kind of traffic.
struct Candidate {
  std::string format;
  double reduction = 1;
  std::optional<Interval> interval;
  bool cheaper_shown = true, dearer_shown = true;
  std::string evidence;  // of the cost, in words
  LossVerdict loss = LossVerdict::cannot_tell;
  std::optional<double> mean_kl;
};

const CostResult* cost_of(const Analysis& analysis, const std::string& format, Mode mode) {
  for (const CostResult& cost : analysis.costs)
    if (cost.format == format && cost.mode == mode) return &cost;
  return nullptr;
}

const Average* average_of(const Analysis& analysis, const std::string& format) {
  for (const Average& average : analysis.averages)
    if (average.format == format) return &average;
  return nullptr;
}

std::optional<double> mean_kl_of(const Analysis& analysis, const std::string& format) {
  for (const Divergence& divergence : analysis.divergences)
    if (divergence.format == format) return divergence.mean_kl.value;
  return std::nullopt;
}

std::string percent(double share) { return fmt::format("{:.3g} %", 100 * share); }

std::string reduction_words(double reduction) {
  if (reduction >= 1) return fmt::format("{:.2f} times cheaper per query", reduction);
  return fmt::format("{:.2f} times as expensive per query", 1 / reduction);
}

std::string evidence_of(const CostResult& cost, const std::string& baseline) {
  const double reduction = cost.cost_reduction.value;
  std::string words =
      fmt::format("{} {} {}", reduction_words(reduction), reduction >= 1 ? "than" : "as", baseline);
  if (cost.cost_reduction.interval)
    words += fmt::format(" (95 % interval of the cost reduction {:.2f} to {:.2f})",
                         cost.cost_reduction.interval->low, cost.cost_reduction.interval->high);
  return words + fmt::format(", cheaper in {} of {} scenarios", cost.cheaper_in, cost.scenarios);
}

// The same for a deployment that serves both kinds.
std::string evidence_of(const CostResult& sync, const CostResult& async) {
  return fmt::format(
      "cost reduction {:.2f} synchronous (cheaper in {} of {} scenarios) and {:.2f} asynchronous "
      "({} of {})",
      sync.cost_reduction.value, sync.cheaper_in, sync.scenarios, async.cost_reduction.value,
      async.cheaper_in, async.scenarios);
}

// Median of the figure an SLO bounds: the highest percentile the requests support.
double highest_percentile(const Latency& latency) {
  return latency.p99.value_or(latency.p90.value_or(latency.p50));
}

// The first limit a format breaks, in words; empty: none.
std::string broken_limit(const Analysis& analysis, const std::string& format,
                         const std::vector<Mode>& modes, const Slo& slo) {
  for (const ScenarioResult& scenario : analysis.scenarios) {
    if (scenario.format != format ||
        std::find(modes.begin(), modes.end(), scenario.mode) == modes.end())
      continue;
    const std::tuple<const char*, const std::optional<double>&, const Latency&> limits[] = {
        {"time to first token", slo.ttft_s, scenario.ttft},
        {"time between tokens", slo.itl_s, scenario.itl},
        {"latency", slo.e2e_s, scenario.e2e}};
    for (const auto& [what, limit, latency] : limits)
      if (limit && latency.count > 0 && highest_percentile(latency) > *limit)
        return fmt::format("{} of {:.3g} s in {} ({}) is above {:.3g} s", what,
                           highest_percentile(latency), scenario.scenario, to_string(scenario.mode),
                           *limit);
  }
  return {};
}

std::string loss_words(const Analysis& analysis, const Candidate& candidate) {
  const Average* average = average_of(analysis, candidate.format);
  if (average == nullptr)
    return fmt::format("Accuracy of {}: cannot tell, no task was measured against {}.",
                       candidate.format, analysis.baseline);
  const Interval& interval = *average->difference.interval;
  const std::string seen = fmt::format(
      "{:+.1f} points on the average of {} tasks (95 % interval {:+.1f} to {:+.1f})",
      100 * average->difference.value, average->tasks, 100 * interval.low, 100 * interval.high);
  if (!analysis.noise.failure.empty())
    return fmt::format("Accuracy of {}: {}, of which nothing is claimed: {}.", candidate.format,
                       seen, analysis.noise.failure);
  switch (candidate.loss) {
    case LossVerdict::within:
      return fmt::format("Accuracy of {}: {}; the loss is shown to be below {}.", candidate.format,
                         seen, percent(analysis.max_loss));
    case LossVerdict::exceeds:
      return fmt::format("Accuracy of {}: {}; the loss is shown to be above {}.", candidate.format,
                         seen, percent(analysis.max_loss));
    case LossVerdict::cannot_tell:
      return fmt::format(
          "Accuracy of {}: {}. This cannot tell whether the loss is below {}; a loss under {:.1f} "
          "points would likely go unseen.",
          candidate.format, seen, percent(analysis.max_loss), 100 * average->detectable);
  }
  return {};
}

// The only sentence that may call a format lossless.
std::string lossless_words(const Analysis& analysis, const Average& average) {
  const LosslessClaim& claim = average.lossless;
  const std::string margin = analysis.lossless_margin
                                 ? fmt::format("margin {} of average accuracy, fixed in the plan",
                                               percent(*analysis.lossless_margin))
                                 : "no margin in the plan";
  if (!claim.shown)
    return fmt::format("{}, lossless ({}): not shown, {}.", average.format, margin, claim.missing);
  return fmt::format(
      "{}, lossless ({}): shown, the loss is below {} (one-sided, 97.5 %); {} of {} answers "
      "flipped.",
      average.format, margin, percent(claim.bound), average.flips, average.pairs);
}

bool overlap(const Candidate& a, const Candidate& b) {
  return a.interval && b.interval && a.interval->low <= b.interval->high &&
         b.interval->low <= a.interval->high;
}

// The cheapest; of those whose intervals overlap its own, the one closest to the baseline's
// predictions.
const Candidate* choose(const std::vector<Candidate>& candidates, bool proven_only,
                        std::vector<const Candidate*>* ties) {
  const Candidate* best = nullptr;
  const auto eligible = [&](const Candidate& candidate) {
    return candidate.loss == LossVerdict::within ||
           (!proven_only && candidate.loss == LossVerdict::cannot_tell);
  };
  for (const Candidate& candidate : candidates)
    if (eligible(candidate) && (best == nullptr || candidate.reduction > best->reduction))
      best = &candidate;
  if (best == nullptr) return nullptr;
  const Candidate* chosen = best;
  for (const Candidate& candidate : candidates) {
    if (&candidate == best || !eligible(candidate) || !overlap(*best, candidate)) continue;
    if (ties != nullptr) ties->push_back(&candidate);
    if (candidate.mean_kl && chosen->mean_kl && *candidate.mean_kl < *chosen->mean_kl)
      chosen = &candidate;
  }
  if (ties != nullptr && chosen != best) {
    std::erase(*ties, chosen);
    ties->insert(ties->begin(), best);
  }
  return chosen;
}

std::string name_list(const std::vector<const Candidate*>& candidates) {
  std::string names;
  for (const Candidate* candidate : candidates)
    names += (names.empty() ? "" : ", ") + candidate->format;
  return names;
}

std::vector<Candidate> candidates_for(const Analysis& analysis, const Options& options,
                                      const std::vector<Mode>& modes,
                                      std::vector<std::string>& excluded) {
  std::vector<Candidate> candidates;
  const double shares[] = {options.traffic.sync_share, options.traffic.async_share};
  for (const FormatSummary& summary : analysis.formats) {
    Candidate candidate;
    candidate.format = summary.format;
    candidate.loss = summary.loss;
    candidate.mean_kl = summary.format == analysis.baseline ? std::optional<double>(0)
                                                            : mean_kl_of(analysis, summary.format);
    std::vector<const CostResult*> costs;
    double reduction = 0, weights = 0;
    for (const Mode mode : modes) {
      const CostResult* cost = cost_of(analysis, summary.format, mode);
      if (cost == nullptr) break;
      const double weight = modes.size() == 1 ? 1 : shares[mode == Mode::sync ? 0 : 1];
      reduction += weight * cost->cost_reduction.value;
      weights += weight;
      candidate.cheaper_shown &= shown_cheaper(*cost) || weight == 0;
      candidate.dearer_shown &= shown_dearer(*cost) || weight == 0;
      costs.push_back(cost);
    }
    if (costs.size() != modes.size()) continue;
    if (modes.size() == 1) {
      candidate.interval = costs[0]->cost_reduction.interval;
      candidate.evidence = evidence_of(*costs[0], analysis.baseline);
    } else {
      candidate.evidence = evidence_of(*costs[0], *costs[1]);
    }
    candidate.reduction = reduction / weights;
    const std::string broken = broken_limit(analysis, summary.format, modes, options.slo);
    if (!broken.empty()) {
      excluded.push_back(fmt::format("{} is out: its {}.", summary.format, broken));
      continue;
    }
    if (summary.loss == LossVerdict::exceeds) {
      excluded.push_back(loss_words(analysis, candidate) + " It is out.");
      continue;
    }
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

Recommendation recommend_for(const Analysis& analysis, const Options& options,
                             const std::string& traffic, const std::vector<Mode>& modes) {
  Recommendation result;
  result.traffic = traffic;
  for (const Mode mode : modes)
    if (cost_of(analysis, analysis.baseline, mode) == nullptr) {
      result.headline = fmt::format("Cannot tell: no {} load of {} was measured.", to_string(mode),
                                    analysis.baseline);
      return result;
    }
  std::vector<std::string> excluded;
  const std::vector<Candidate> candidates = candidates_for(analysis, options, modes, excluded);
  // A gain that is shown, in cost and in accuracy, comes before a larger one that is not.
  std::vector<const Candidate*> ties;
  const Candidate* chosen = choose(candidates, /*proven_only=*/true, &ties);
  const bool gain_shown =
      chosen != nullptr && chosen->format != analysis.baseline && chosen->cheaper_shown;
  if (!gain_shown) {
    ties.clear();
    chosen = choose(candidates, /*proven_only=*/false, &ties);
  }
  if (chosen == nullptr) {
    result.headline = "Cannot tell: no measured format keeps the limits.";
    result.reasons = excluded;
    return result;
  }
  result.format = chosen->format;
  const bool is_baseline = chosen->format == analysis.baseline;
  const bool loss_shown = chosen->loss == LossVerdict::within;
  result.supported = loss_shown && (is_baseline || chosen->cheaper_shown);
  if (is_baseline)  // only when nothing else could be cheaper
    for (const Candidate& candidate : candidates)
      result.supported &= candidate.format == analysis.baseline || candidate.dearer_shown;

  if (is_baseline) {
    result.headline = candidates.size() + excluded.size() > 1
                          ? "No measured quantized format that keeps the limits is cheaper here."
                          : "Nothing else was measured under this traffic.";
  } else {
    result.headline =
        fmt::format("{} than {}", reduction_words(chosen->reduction), analysis.baseline);
    if (result.supported)
      result.headline += fmt::format(", accuracy loss below {}.", percent(analysis.max_loss));
    else if (!chosen->cheaper_shown)
      result.headline += ", which the rows suggest but do not show.";
    else
      result.headline += fmt::format(
          "; whether it loses less than {} of accuracy, this study "
          "cannot tell.",
          percent(analysis.max_loss));
    result.reasons.push_back(fmt::format("Cost of {}: {}.", chosen->format, chosen->evidence));
    result.reasons.push_back(loss_words(analysis, *chosen));
    if (const Average* average = average_of(analysis, chosen->format))
      result.reasons.push_back(lossless_words(analysis, *average));
    if (chosen->mean_kl)
      result.reasons.push_back(
          fmt::format("Its next-token distribution is {:.3g} nats (mean KL) from that of {}.",
                      *chosen->mean_kl, analysis.baseline));
  }
  if (!ties.empty())
    result.reasons.push_back(fmt::format(
        "In cost it is not told apart from {}: the intervals overlap{}.", name_list(ties),
        chosen->mean_kl ? ", and it stays closer to the baseline's predictions or as cheap" : ""));
  if (!result.supported && !is_baseline) {
    const Candidate* proven = choose(candidates, /*proven_only=*/true, nullptr);
    if (proven != nullptr)
      result.reasons.push_back(fmt::format(
          "What these rows fully support is {}.{}", proven->format,
          analysis.noise.failure.empty() ? " More questions per task would decide." : ""));
  }
  // Why not the others, cheapest first.
  std::vector<const Candidate*> others;
  for (const Candidate& candidate : candidates)
    if (&candidate != chosen && candidate.format != analysis.baseline) others.push_back(&candidate);
  std::stable_sort(others.begin(), others.end(), [](const Candidate* a, const Candidate* b) {
    return a->reduction > b->reduction;
  });
  for (const Candidate* other : others) {
    std::string line = fmt::format("{}: {}", other->format, other->evidence);
    if (other->mean_kl) line += fmt::format(", mean KL {:.2g} nats", *other->mean_kl);
    if (gain_shown && other->loss == LossVerdict::cannot_tell)
      line += fmt::format("; whether it loses less than {}, this study cannot tell",
                          percent(analysis.max_loss));
    result.reasons.push_back(line + ".");
  }
  result.reasons.insert(result.reasons.end(), excluded.begin(), excluded.end());
  return result;
}

}  // namespace

std::vector<Recommendation> recommend(const Analysis& analysis, const Options& options) {
  return {recommend_for(analysis, options, "synchronous", {Mode::sync}),
          recommend_for(analysis, options, "asynchronous", {Mode::async}),
          recommend_for(analysis, options, "mixed", {Mode::sync, Mode::async})};
}

}  // namespace narrow::analyse
