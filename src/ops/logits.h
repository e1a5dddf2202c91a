// What can be said of a row of logits without keeping it. Pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace narrow::ops {

// ln Σ exp(logits): maximum and sum in double, in index order.
double log_sum_exp(std::span<const float> logits);

// Lowest id among the largest logits; NaN is below all, and 0 where there is nothing else.
int32_t argmax(std::span<const float> logits);

// The `count` largest, of equal ones the lower id first; NaN is below all. Fewer where there are
// fewer logits.
std::vector<int32_t> best(std::span<const float> logits, int64_t count);

// Of the best tokens, as many as a summary has room for: what servers of the OpenAI API give.
inline constexpr int64_t kMostBest = 20;

// What is asked of a row of logits. How a token is drawn: ops/sampling.h.
struct LogitQuery {
  int32_t target = -1;     // a token to score; -1: none
  bool normalize = false;  // whether log_sum_exp is wanted
  double temperature = 0;  // 0: the likeliest token is chosen
  int64_t top_k = 0;       // 0: off
  double top_p = 1;
  uint64_t random = 0;     // uniform: all the randomness of the draw
  int32_t best_count = 0;  // so many of the best tokens are wanted, kMostBest at most
};

struct TokenLogit {
  int32_t id;
  float logit;
};

// What choosing a token or scoring a given one needs.
struct LogitSummary {
  int32_t argmax = 0;
  int32_t chosen = 0;
  float target = 0;                             // logit of the token asked for
  float chosen_logit = 0;                       // of the chosen one
  double log_sum_exp = 0;                       // where it was asked for
  std::array<TokenLogit, kMostBest> best = {};  // as best() has them, as many as were asked for
};

LogitSummary summarize(std::span<const float> logits, const LogitQuery& query);

// How far the distribution of next tokens that logits q give lies from that of p.
struct LogitDivergence {
  double kl = 0;                // KL(p || q), nats; a token of probability 0 in p counts nothing
  double nll_p = 0, nll_q = 0;  // negative log-likelihoods of the token that came
  bool same_argmax = false;
};

// p, q: of one size. Exponentials in float32, sums in double, in index order.
LogitDivergence divergence(std::span<const float> p, std::span<const float> q, int32_t target);

}  // namespace narrow::ops
