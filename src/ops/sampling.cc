#include "ops/sampling.h"

#include <algorithm>
#include <vector>

namespace narrow::ops {
namespace {

struct Candidate {
  uint64_t rank, weight;
};

bool worse(const Candidate& a, const Candidate& b) { return a.rank < b.rank; }
bool better(const Candidate& a, const Candidate& b) { return a.rank > b.rank; }

// Rank of the last token that top_k and top_p keep.
uint64_t cut_of(std::span<const float> logits, const LogitQuery& query,
                const TokenWeights& weight_of) {
  std::vector<Candidate> candidates;
  for (size_t id = 0; id < logits.size(); ++id)
    if (const uint64_t weight = weight_of(logits[id]))
      candidates.push_back({rank_of(logits[id], static_cast<int64_t>(id)), weight});
  const auto most = static_cast<size_t>(query.top_k);
  if (query.top_k > 0 && most < candidates.size()) {
    std::nth_element(candidates.begin(), candidates.begin() + query.top_k - 1, candidates.end(),
                     better);
    candidates.resize(most);
  }
  if (candidates.empty()) return 0;
  uint64_t total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  const uint64_t wanted = nucleus_weight(total, query.top_p);
  std::make_heap(candidates.begin(), candidates.end(), worse);
  uint64_t cut = 0;
  for (uint64_t kept = 0; kept < wanted; candidates.pop_back()) {
    std::pop_heap(candidates.begin(), candidates.end(), worse);
    cut = candidates.back().rank;
    kept += candidates.back().weight;
  }
  return cut;
}

}  // namespace

int32_t choose(std::span<const float> logits, const LogitQuery& query) {
  const int32_t likeliest = argmax(logits);
  if (query.temperature <= 0) return likeliest;
  const TokenWeights weight_of(logits[static_cast<size_t>(likeliest)], query.temperature);
  uint64_t cut = 0;
  if (query.top_k > 0 || query.top_p < 1) cut = cut_of(logits, query, weight_of);
  std::vector<uint64_t> weights(logits.size());
  uint64_t total = 0;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (rank_of(logits[id], static_cast<int64_t>(id)) >= cut) weights[id] = weight_of(logits[id]);
    total += weights[id];
  }
  if (total == 0) return likeliest;
  uint64_t point = point_of(query.random, total);
  size_t id = 0;
  for (; point >= weights[id]; ++id) point -= weights[id];
  return static_cast<int32_t>(id);
}

}  // namespace narrow::ops
