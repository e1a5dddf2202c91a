// For tests: logits of every position of a sequence, on the host.
#pragma once

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include "model/decoder.h"
#include "ops/logits.h"

namespace narrow::model {

// Runs `tokens` as one sequence and hands the logits of all positions to `sink`, some rows at a
// time, in order.
inline void for_each_logits(
    Decoder& decoder, std::span<const int32_t> tokens,
    const std::function<void(int64_t first_position, View<const float>)>& sink,
    std::optional<DType> kv_dtype = {}) {
  const int64_t chunk = std::min<int64_t>(128, decoder.max_rows());
  const auto total = static_cast<int64_t>(tokens.size());
  const int64_t blocks = (total + ops::kKvBlockTokens - 1) / ops::kKvBlockTokens;
  KvCache kv(decoder.config(), decoder.backend(), blocks, kv_dtype);
  for (int64_t first = 0; first < total; first += chunk) {
    const int64_t rows = std::min(chunk, total - first);
    std::vector<int32_t> all(static_cast<size_t>(rows));
    std::iota(all.begin(), all.end(), 0);
    const auto begin = tokens.begin() + first;
    sink(first, decoder.forward(ops::single_sequence({begin, begin + rows}, first), kv, all));
  }
}

// In place: logits become log-probabilities. Sums in double, in index order.
inline void log_softmax(std::span<float> logits) {
  const auto shift = static_cast<float>(ops::log_sum_exp(logits));
  for (float& logit : logits) logit -= shift;
}

}  // namespace narrow::model
