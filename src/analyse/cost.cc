#include "analyse/cost.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "analyse/rng.h"

namespace narrow::analyse {
namespace {

constexpr int64_t kRequestsForP90 = 100, kRequestsForP99 = 1000;
constexpr int64_t kFewRequests = 5;
constexpr int64_t kScenariosForSignTest = 6;  // 2 / 2⁶ < 0.05

struct Measured {
  std::string format, scenario;
  Mode mode = Mode::sync;
  std::vector<double> e2e;  // sorted; finished requests after the warm-up
  double queries_per_second = 0;
};

Latency latency_of(std::vector<double> seconds) {
  Latency latency;
  latency.count = static_cast<int64_t>(seconds.size());
  if (seconds.empty()) return latency;
  std::sort(seconds.begin(), seconds.end());
  latency.low = seconds.front();
  latency.high = seconds.back();
  latency.p50 = quantile_of_sorted(seconds, 0.5);
  latency.p50_interval = quantile_interval(seconds, 0.5);
  if (latency.count >= kRequestsForP90) latency.p90 = quantile_of_sorted(seconds, 0.9);
  if (latency.count >= kRequestsForP99) latency.p99 = quantile_of_sorted(seconds, 0.99);
  return latency;
}

ScenarioResult scenario_of(const LoadCell& cell, const std::optional<double>& price) {
  ScenarioResult result;
  result.format = cell.source.format;
  result.scenario = cell.scenario;
  result.mode = cell.mode;
  result.source = cell.source.id;
  std::vector<double> e2e, ttft, itl;
  double begin = 0, end = 0, output = 0;
  for (const Request& request : cell.requests) {
    if (request.warmup) {
      ++result.warmup;
      continue;
    }
    if (!request.ok) {
      ++result.failed;
      continue;
    }
    begin = e2e.empty() ? request.intended_s : std::min(begin, request.intended_s);
    end = std::max(end, request.intended_s + request.e2e_s);
    e2e.push_back(request.e2e_s);
    ttft.push_back(request.ttft_s);
    if (!request.itl_s.empty()) itl.push_back(mean(request.itl_s));
    result.prompt_tokens += static_cast<double>(request.prompt_tokens);
    output += static_cast<double>(request.output_tokens);
  }
  result.requests = static_cast<int64_t>(e2e.size());
  if (e2e.empty()) return result;
  const auto count = static_cast<double>(e2e.size());
  result.prompt_tokens /= count;
  result.output_tokens = output / count;
  result.e2e = latency_of(std::move(e2e));
  result.ttft = latency_of(std::move(ttft));
  result.itl = latency_of(std::move(itl));
  // Of a synchronous run the rate is that of one request after the other, without the pauses.
  result.queries_per_second = cell.mode == Mode::sync ? 1 / result.e2e.p50 : count / (end - begin);
  result.output_tokens_per_second = result.queries_per_second * result.output_tokens;
  if (price && *price > 0) result.queries_per_dollar = result.queries_per_second * 3600 / *price;
  return result;
}

std::vector<double> finished_latencies(const LoadCell& cell) {
  std::vector<double> seconds;
  for (const Request& request : cell.requests)
    if (!request.warmup && request.ok) seconds.push_back(request.e2e_s);
  return seconds;
}

double median_of_resample(const std::vector<double>& seconds, Rng& rng,
                          std::vector<double>& scratch) {
  scratch.resize(seconds.size());
  for (double& value : scratch)
    value = seconds[static_cast<size_t>(rng.below(static_cast<int64_t>(seconds.size())))];
  std::sort(scratch.begin(), scratch.end());
  return quantile_of_sorted(scratch, 0.5);
}

// One scenario that baseline and format both finished requests in.
struct Shared {
  double weight = 1, reduction = 1;
  const LoadCell *base = nullptr, *variant = nullptr;
};

Interval resampled_reduction(const std::vector<Shared>& shared, double price_ratio,
                             const Options& options) {
  Rng rng(seed_for(options.seed, "cost"));
  std::vector<std::pair<std::vector<double>, std::vector<double>>> latencies;
  for (const Shared& scenario : shared)
    latencies.push_back(
        {finished_latencies(*scenario.base), finished_latencies(*scenario.variant)});
  std::vector<double> values(static_cast<size_t>(options.resamples)), scratch;
  for (double& value : values) {
    double sum = 0, weights = 0;
    for (size_t i = 0; i < shared.size(); ++i) {
      const double base = median_of_resample(latencies[i].first, rng, scratch);
      const double variant = median_of_resample(latencies[i].second, rng, scratch);
      sum += shared[i].weight * base / variant * price_ratio;
      weights += shared[i].weight;
    }
    value = sum / weights;
  }
  return percentile_interval(values);
}

}  // namespace

std::optional<double> price_of(const StudyRows& rows, const std::string& format,
                               const Options& options) {
  if (options.price_per_hour) return options.price_per_hour;
  std::optional<double> price;
  for (const EnvironmentCell& environment : rows.environments) {
    if (environment.price_per_hour <= 0) continue;
    if (environment.source.format == format) return environment.price_per_hour;
    if (!price) price = environment.price_per_hour;
  }
  return price;
}

bool shown_cheaper(const CostResult& cost) {
  if (cost.cost_reduction.interval) return cost.cost_reduction.interval->low > 1;
  return cost.scenarios >= kScenariosForSignTest && cost.cheaper_in == cost.scenarios;
}

bool shown_dearer(const CostResult& cost) {
  if (cost.cost_reduction.interval) return cost.cost_reduction.interval->high < 1;
  return cost.scenarios >= kScenariosForSignTest && cost.cheaper_in == 0;
}

CostResults analyse_cost(const StudyRows& rows, const std::vector<std::string>& formats,
                         const Options& options) {
  CostResults results;
  using Key = std::tuple<Mode, std::string, std::string>;  // mode, scenario, format
  std::map<Key, const LoadCell*> cells;
  std::map<Key, ScenarioResult> measured;
  std::vector<std::pair<Mode, std::string>> order;
  std::set<std::string> names;
  for (const LoadCell& cell : rows.loads) {
    names.insert(cell.scenario);
    const std::pair<Mode, std::string> entry{cell.mode, cell.scenario};
    if (std::find(order.begin(), order.end(), entry) == order.end()) order.push_back(entry);
    ScenarioResult result = scenario_of(cell, price_of(rows, cell.source.format, options));
    if (!cell.source.finished)
      results.warnings.push_back(fmt::format("The {} load of {} on {} is unfinished.",
                                             to_string(cell.mode), cell.scenario,
                                             cell.source.format));
    if (result.failed > 0)
      results.warnings.push_back(fmt::format("{} of {} requests failed: {}, {}, {}.", result.failed,
                                             result.failed + result.requests, cell.source.format,
                                             cell.scenario, to_string(cell.mode)));
    const Key key{cell.mode, cell.scenario, cell.source.format};
    if (result.requests > 0) {
      cells[key] = &cell;
      measured[key] = std::move(result);
    }
  }
  for (const auto& [name, weight] : options.traffic.scenarios)
    if (!names.contains(name) && !names.empty())
      throw Error::refused("the traffic names a scenario that was not measured", name);

  for (const Mode mode : {Mode::sync, Mode::async}) {
    for (const auto& [entry_mode, scenario] : order) {
      if (entry_mode != mode) continue;
      for (const std::string& format : formats) {
        const auto found = measured.find({mode, scenario, format});
        if (found != measured.end()) results.scenarios.push_back(found->second);
      }
    }
    for (const std::string& format : formats) {
      CostResult cost;
      cost.format = format;
      cost.mode = mode;
      const auto price = price_of(rows, format, options);
      const auto base_price = price_of(rows, options.baseline, options);
      const double price_ratio = price && base_price ? *base_price / *price : 1;
      std::vector<Shared> shared;
      double weights = 0, reduction = 0, dollars = 0;
      for (const auto& [entry_mode, scenario] : order) {
        const Key base_key{mode, scenario, options.baseline}, key{mode, scenario, format};
        if (entry_mode != mode || !measured.contains(base_key) || !measured.contains(key)) continue;
        double weight = 1;
        if (!options.traffic.scenarios.empty()) {
          const auto found = options.traffic.scenarios.find(scenario);
          weight = found == options.traffic.scenarios.end() ? 0 : found->second;
        }
        if (weight <= 0) continue;
        const ScenarioResult& variant = measured[key];
        Shared entry{
            weight,
            variant.queries_per_second / measured[base_key].queries_per_second * price_ratio,
            cells[base_key], cells[key]};
        cost.cheaper_in += entry.reduction > 1;
        cost.least_requests =
            shared.empty() ? variant.requests : std::min(cost.least_requests, variant.requests);
        cost.least_requests = std::min(cost.least_requests, measured[base_key].requests);
        reduction += weight * entry.reduction;
        weights += weight;
        if (variant.queries_per_dollar) dollars += weight * 1000 / *variant.queries_per_dollar;
        shared.push_back(entry);
      }
      if (shared.empty()) continue;
      cost.scenarios = static_cast<int64_t>(shared.size());
      cost.cost_reduction.value = reduction / weights;
      if (price) cost.dollars_per_1000 = dollars / weights;
      if (mode == Mode::sync && format != options.baseline && cost.least_requests > 1)
        cost.cost_reduction.interval = resampled_reduction(shared, price_ratio, options);
      if (cost.least_requests < kFewRequests && format == options.baseline)
        results.warnings.push_back(
            fmt::format("Some {} scenarios have only {} requests: intervals of latency ratios are "
                        "indications.",
                        to_string(mode), cost.least_requests));
      results.costs.push_back(std::move(cost));
    }
  }
  return results;
}

}  // namespace narrow::analyse
