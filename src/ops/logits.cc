#include "ops/logits.h"

#include <algorithm>
#include <cmath>

#include "ops/sampling.h"

namespace narrow::ops {

double log_sum_exp(std::span<const float> logits) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (float logit : logits) total += std::exp(logit - largest);
  return largest + std::log(total);
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

}  // namespace narrow::ops
