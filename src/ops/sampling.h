// The arithmetic by which a token is drawn from a row of logits, shared by the host and the kernels
// (ops/cuda/sampling.cu): the same row and query give the same token everywhere, whatever order it
// is computed in. That is why weights are integers: their sums have no rounding.
//
// The weight of a token is floor(2^44 · 2^y), y = (logit - largest) · log2(e) / temperature, with a
// relative error below 2^-44 of 2^y; below 2^-44 it is 0. Tokens are ranked by logit, equal ones by
// lower id. top_k keeps the first k of them; top_p, of these, the shortest beginning whose weights
// are at least top_p of their sum. Of the kept ones in the order of ids, the token is drawn at
// floor(random · sum / 2^64) of the running sum. A row without weight (NaN, infinities) gives
// argmax.
//
// Compiled without contraction of products and sums on both sides.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

#include "ops/logits.h"

namespace narrow::ops {

// Sums of weights stay below 2^64 up to this vocabulary.
inline constexpr int64_t kMostSampled = int64_t{1} << 19;

// Orders floats as integers; equal floats are equal, NaN is below all.
constexpr uint32_t order_key(float value) {
  if (value != value) return 0;
  const auto bits = std::bit_cast<uint32_t>(value + 0.0f);  // -0 becomes 0
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// Larger is better; no two tokens of a row have the same.
constexpr uint64_t rank_of(float logit, int64_t id) {
  return uint64_t{order_key(logit)} << 32 | (0xffffffffu - static_cast<uint32_t>(id));
}

class TokenWeights {
 public:
  constexpr TokenWeights(float largest, double temperature)
      : largest_(largest), scale_(1.4426950408889634 / temperature) {}

  constexpr uint64_t operator()(float logit) const {
    const double exponent = (static_cast<double>(logit) - largest_) * scale_;
    if (!(exponent > -44 && exponent <= 0)) return 0;
    const int down = static_cast<int>(0.5 - exponent);
    const double f = exponent + down;  // in [-1/2, 1/2]
    // 2^f by its series, ln(2)^k / k! · f^k; the rest is below 2^-52.
    constexpr double kTerms[] = {2.5678435993488206e-11,
                                 4.4455382718708116e-10,
                                 7.0549116208011234e-09,
                                 1.0178086009239700e-07,
                                 1.3215486790144310e-06,
                                 1.5252733804059841e-05,
                                 1.5403530393381609e-04,
                                 1.3333558146428443e-03,
                                 9.6181291076284769e-03,
                                 5.5504108664821583e-02,
                                 2.4022650695910072e-01,
                                 6.9314718055994529e-01,
                                 1.0};
    double power = 0;
    for (const double term : kTerms) power = power * f + term;
    return static_cast<uint64_t>(power * 0x1p44) >> down;
  }

 private:
  double largest_, scale_;
};

// The largest logit below which every weight is 0, or one lower.
constexpr float weightless_below(float largest, double temperature) {
  return static_cast<float>(largest - 40 * temperature);  // 2^-44 is reached at 30.5 temperatures
}

// Weight that the nucleus must reach: that of one token at least.
constexpr uint64_t nucleus_weight(uint64_t total, double top_p) {
  if (top_p >= 1) return total;
  const double share = static_cast<double>(total) * top_p;
  if (!(share >= 1)) return 1;
  auto weight = static_cast<uint64_t>(share);
  if (static_cast<double>(weight) < share) ++weight;
  return weight < total ? weight : total;
}

// floor(random · total / 2^64).
constexpr uint64_t point_of(uint64_t random, uint64_t total) {
  const uint64_t a = random >> 32, b = random & 0xffffffffu, c = total >> 32,
                 d = total & 0xffffffffu;
  const uint64_t middle = (b * d >> 32) + (a * d & 0xffffffffu) + (b * c & 0xffffffffu);
  return a * c + (a * d >> 32) + (b * c >> 32) + (middle >> 32);
}

// The token that `query` asks for.
int32_t choose(std::span<const float> logits, const LogitQuery& query);

}  // namespace narrow::ops
