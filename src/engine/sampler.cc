#include "engine/sampler.h"

#include <algorithm>

namespace narrow::engine {
namespace {

// SplitMix64 of a counter (Steele, Lea, Flood 2014): a uniform number for each pair.
uint64_t random_of(uint64_t seed, int64_t index) {
  uint64_t z = seed * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(index + 1) * 0xd1b54a32d192ed03u;
  for (int round = 0; round < 2; ++round) {
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
  }
  return z;
}

}  // namespace

bool fit_summary(int64_t alternatives) { return alternatives <= ops::kMostBest; }

int32_t best_count(int64_t alternatives) {
  return fit_summary(alternatives) ? static_cast<int32_t>(std::max<int64_t>(0, alternatives)) : 0;
}

ops::LogitQuery query_of(const endpoint::Sampling& sampling, int64_t index) {
  ops::LogitQuery query;
  query.normalize = sampling.logprobs > 0;
  query.best_count = best_count(sampling.logprobs);
  query.temperature = sampling.temperature;
  query.top_k = sampling.top_k;
  query.top_p = sampling.top_p;
  query.random = random_of(sampling.seed, index);
  return query;
}

}  // namespace narrow::engine
