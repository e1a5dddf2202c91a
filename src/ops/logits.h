// What can be said of a row of logits without keeping it. Pure functions.
#pragma once

#include <cstdint>
#include <span>

namespace narrow::ops {

// ln Σ exp(logits): maximum and sum in double, in index order.
double log_sum_exp(std::span<const float> logits);

// Lowest id among the largest logits.
int32_t argmax(std::span<const float> logits);

// What is asked of a row of logits.
struct LogitQuery {
  int32_t target = -1;  // a token to score; -1: none
};

// What choosing the likeliest token or scoring a given one needs.
struct LogitSummary {
  int32_t argmax = 0;      // the token that is chosen
  float target = 0;        // logit of the token asked for
  double log_sum_exp = 0;  // where a token was asked for
};

LogitSummary summarize(std::span<const float> logits, const LogitQuery& query);

}  // namespace narrow::ops
