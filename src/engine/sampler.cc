#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/logits.h"

namespace narrow::engine {
namespace {

// SplitMix64 of a counter (Steele, Lea, Flood 2014): a uniform number in [0, 1) for each pair.
double uniform(uint64_t seed, int64_t index) {
  uint64_t z = seed * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(index + 1) * 0xd1b54a32d192ed03u;
  for (int round = 0; round < 2; ++round) {
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
  }
  return static_cast<double>(z >> 11) * 0x1p-53;
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

int32_t sample(std::span<const float> logits, const endpoint::Sampling& sampling, int64_t index) {
  if (sampling.temperature <= 0) return ops::argmax(logits);
  const auto all = static_cast<int64_t>(logits.size());
  const bool cut = sampling.top_k > 0 || sampling.top_p < 1;
  // Without a cut the order of the candidates does not matter, so ids need no sorting.
  std::vector<std::pair<int32_t, double>> candidates;
  if (cut) {
    candidates = best(logits, sampling.top_k > 0 ? std::min(sampling.top_k, all) : all, 0);
  } else {
    for (int32_t id = 0; id < all; ++id)
      candidates.emplace_back(id, logits[static_cast<size_t>(id)]);
  }
  double largest = -INFINITY;
  for (const auto& [id, logit] : candidates) largest = std::max(largest, logit);
  double total = 0;
  for (auto& [id, weight] : candidates)
    total += weight = std::exp((weight - largest) / sampling.temperature);
  if (sampling.top_p < 1) {
    double kept = 0;
    size_t count = 0;
    while (count < candidates.size() && kept < sampling.top_p * total)
      kept += candidates[count++].second;
    candidates.resize(std::max<size_t>(1, count));
    total = std::max(kept, candidates[0].second);
  }
  double point = uniform(sampling.seed, index) * total;
  for (const auto& [id, weight] : candidates) {
    point -= weight;
    if (point < 0) return id;
  }
  return candidates.back().first;
}

}  // namespace narrow::engine
