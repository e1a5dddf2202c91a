// Chooses tokens from logits. Pure: the same logits, settings and position give the same token,
// whatever else is in the batch.
#pragma once

#include <cstdint>
#include <span>

#include "endpoint/endpoint.h"

namespace narrow::engine {

// The `count` largest, best first; ties by lower id. Log-probabilities against `normalizer`.
std::vector<std::pair<int32_t, double>> best(std::span<const float> logits, int64_t count,
                                             double normalizer);

// One token. index: how many tokens were generated before; with the seed it is all the randomness.
int32_t sample(std::span<const float> logits, const endpoint::Sampling& sampling, int64_t index);

}  // namespace narrow::engine
