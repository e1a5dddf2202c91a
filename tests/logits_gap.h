// How far a backend's next-token log-probabilities are from transformers' (tests/goldens).
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "model/test_logits.h"

namespace narrow {

struct Gap {
  double largest = 0, sum = 0;
  int64_t count = 0, argmax_differs = 0;
  double mean() const { return sum / static_cast<double>(count); }
};

// Over every position of every prompt of `golden`, a JSON-lines file. kv_dtype: of the cache, the
// backend's own unless given.
inline Gap logits_gap(const std::string& model, const std::string& backend_name,
                      const std::string& golden, std::optional<DType> kv_dtype = {}) {
  const auto backend = ops::make_backend(backend_name);
  const auto checkpoint = checkpoint::open(model);
  model::Decoder decoder(*checkpoint, *backend);
  Gap gap;
  for_each_json_line(golden, [&](Json&& row, int64_t) {
    const auto ids = row["token_ids"].get<std::vector<int32_t>>();
    const auto expected = row["next_token_logprobs"].get<std::vector<double>>();
    const auto argmax = row["argmax_ids"].get<std::vector<int32_t>>();
    const auto compare = [&](int64_t first, View<const float> logits) {
      for (int64_t r = 0; r < logits.rows; ++r) {
        std::vector<float> copy(logits.row(r).begin(), logits.row(r).end());
        const auto position = static_cast<size_t>(first + r);
        const auto best = std::max_element(copy.begin(), copy.end()) - copy.begin();
        gap.argmax_differs += best != argmax[position];
        model::log_softmax(copy);
        if (position < expected.size()) {
          const double difference =
              std::fabs(copy[static_cast<size_t>(ids[position + 1])] - expected[position]);
          gap.largest = std::max(gap.largest, difference);
          gap.sum += difference;
          ++gap.count;
        }
      }
    };
    model::for_each_logits(decoder, ids, compare, kv_dtype);
  });
  std::printf("%s on %s: largest %.2e mean %.2e over %ld, argmax differs %ld\n", model.c_str(),
              backend_name.c_str(), gap.largest, gap.mean(), static_cast<long>(gap.count),
              static_cast<long>(gap.argmax_differs));
  return gap;
}

}  // namespace narrow
