#include "ops/logits.h"

#include <algorithm>
#include <cmath>

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
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

LogitSummary summarize(std::span<const float> logits, const LogitQuery& query) {
  LogitSummary summary;
  summary.argmax = argmax(logits);
  summary.chosen = query.temperature > 0 ? choose(logits, query) : summary.argmax;
  if (query.target >= 0) summary.target = logits[static_cast<size_t>(query.target)];
  if (query.normalize) summary.log_sum_exp = log_sum_exp(logits);
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
