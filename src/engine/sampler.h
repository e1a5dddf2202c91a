// What is asked of the logits of a generated token. Pure: the same settings and position ask for
// the same token (ops/sampling.h), whatever else is in the batch.
#pragma once

#include <cstdint>
#include <span>

#include "endpoint/endpoint.h"
#include "ops/logits.h"

namespace narrow::engine {

// The `count` largest, best first; ties by lower id. Log-probabilities against `normalizer`.
std::vector<std::pair<int32_t, double>> best(std::span<const float> logits, int64_t count,
                                             double normalizer);

// index: how many tokens were generated before; with the seed it is all the randomness.
ops::LogitQuery query_of(const endpoint::Sampling& sampling, int64_t index);

}  // namespace narrow::engine
