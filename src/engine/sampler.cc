#include "engine/sampler.h"

#include <algorithm>
#include <numeric>

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

std::vector<std::pair<int32_t, double>> best(std::span<const float> logits, int64_t count,
                                             double normalizer) {
  const auto before = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)];
    const float y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  const auto wanted = std::min(static_cast<size_t>(count), logits.size());
  std::vector<int32_t> ids(wanted);
  std::iota(ids.begin(), ids.end(), 0);
  if (wanted > 0 && wanted < logits.size()) {
    // A heap with the worst of the best on top: a row of 150 000 is mostly compared and passed.
    std::make_heap(ids.begin(), ids.end(), before);
    float worst = logits[static_cast<size_t>(ids.front())];
    for (size_t i = wanted; i < logits.size(); ++i) {
      if (!(logits[i] > worst)) continue;
      std::pop_heap(ids.begin(), ids.end(), before);
      ids.back() = static_cast<int32_t>(i);
      std::push_heap(ids.begin(), ids.end(), before);
      worst = logits[static_cast<size_t>(ids.front())];
    }
  }
  std::sort(ids.begin(), ids.end(), before);
  std::vector<std::pair<int32_t, double>> result;
  for (size_t i = 0; i < wanted; ++i)
    result.emplace_back(ids[i], logits[static_cast<size_t>(ids[i])] - normalizer);
  return result;
}

ops::LogitQuery query_of(const endpoint::Sampling& sampling, int64_t index) {
  ops::LogitQuery query;
  query.normalize = sampling.logprobs > 0;
  query.temperature = sampling.temperature;
  query.top_k = sampling.top_k;
  query.top_p = sampling.top_p;
  query.random = random_of(sampling.seed, index);
  return query;
}

}  // namespace narrow::engine
