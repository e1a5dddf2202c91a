// What is asked of the logits of a generated token. Pure: the same settings and position ask for
// the same token (ops/sampling.h), whatever else is in the batch.
#pragma once

#include <cstdint>

#include "endpoint/endpoint.h"
#include "ops/logits.h"

namespace narrow::engine {

// Whether so many of the best tokens come with a summary of logits; more are read from the logits.
bool fit_summary(int64_t alternatives);
// How many a summary is asked for.
int32_t best_count(int64_t alternatives);

// index: how many tokens were generated before; with the seed it is all the randomness.
ops::LogitQuery query_of(const endpoint::Sampling& sampling, int64_t index);

}  // namespace narrow::engine
