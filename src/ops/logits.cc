#include "ops/logits.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/sampling.h"

namespace narrow::ops {

namespace {

double log_sum_exp(std::span<const float> logits, float largest) {
  double total = 0;
  for (float logit : logits) total += std::exp(logit - largest);
  return largest + std::log(total);
}

}  // namespace

double log_sum_exp(std::span<const float> logits) {
  return log_sum_exp(logits, *std::max_element(logits.begin(), logits.end()));
}

int32_t argmax(std::span<const float> logits) {
  // Of numbers behind a NaN none would be larger than it.
  const auto number =
      std::find_if_not(logits.begin(), logits.end(), [](float x) { return std::isnan(x); });
  if (number == logits.end()) return 0;
  return static_cast<int32_t>(std::max_element(number, logits.end()) - logits.begin());
}

std::vector<int32_t> best(std::span<const float> logits, int64_t count) {
  const auto key = [&](int32_t id) { return order_key(logits[static_cast<size_t>(id)]); };
  const auto before = [&](int32_t a, int32_t b) {
    return key(a) != key(b) ? key(a) > key(b) : a < b;
  };
  const auto wanted = std::min(static_cast<size_t>(count), logits.size());
  std::vector<int32_t> ids(wanted);
  std::iota(ids.begin(), ids.end(), 0);
  if (wanted > 0 && wanted < logits.size()) {
    // A heap with the worst of the best on top: a row of 150 000 is mostly compared and passed.
    std::make_heap(ids.begin(), ids.end(), before);
    uint32_t worst = key(ids.front());
    for (size_t i = wanted; i < logits.size(); ++i) {
      if (order_key(logits[i]) <= worst) continue;
      std::pop_heap(ids.begin(), ids.end(), before);
      ids.back() = static_cast<int32_t>(i);
      std::push_heap(ids.begin(), ids.end(), before);
      worst = key(ids.front());
    }
  }
  std::sort(ids.begin(), ids.end(), before);
  return ids;
}

LogitSummary summarize(std::span<const float> logits, const LogitQuery& query) {
  LogitSummary summary;
  summary.argmax = argmax(logits);
  summary.chosen = query.temperature > 0 ? choose(logits, query) : summary.argmax;
  summary.chosen_logit = logits[static_cast<size_t>(summary.chosen)];
  if (query.target >= 0) summary.target = logits[static_cast<size_t>(query.target)];
  if (query.normalize) summary.log_sum_exp = log_sum_exp(logits);
  const auto ids = best(logits, query.best_count);
  for (size_t i = 0; i < ids.size(); ++i)
    summary.best[i] = {ids[i], logits[static_cast<size_t>(ids[i])]};
  return summary;
}

LogitDivergence divergence(std::span<const float> p, std::span<const float> q, int32_t target) {
  const auto largest_p = static_cast<size_t>(argmax(p)), largest_q = static_cast<size_t>(argmax(q));
  const double sum_p = log_sum_exp(p, p[largest_p]), sum_q = log_sum_exp(q, q[largest_q]);
  double kl = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double log_p = p[i] - sum_p;
    const float share = std::exp(static_cast<float>(log_p));
    if (share != 0) kl += share * (log_p - (q[i] - sum_q));
  }
  const auto came = static_cast<size_t>(target);
  return {kl, sum_p - p[came], sum_q - q[came], largest_p == largest_q};
}

}  // namespace narrow::ops
