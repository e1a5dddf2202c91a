// What is asked of the logits of a generated token. Pure: the same settings and position ask for
// the same token (ops/sampling.h), whatever else is in the batch.
#pragma once

#include <cstdint>

#include "endpoint/endpoint.h"
#include "ops/logits.h"

namespace narrow::engine {

// How many of the best tokens a summary of logits brings where `wanted` are: none where there are
// more than it has room for, which are read from the logits themselves.
int32_t best_of_summary(int64_t wanted);

// index: how many tokens were generated before; with the seed it is all the randomness.
ops::LogitQuery query_of(const endpoint::Sampling& sampling, int64_t index);

}  // namespace narrow::engine
