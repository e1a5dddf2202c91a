// Rows of logits and what is asked of them, as tests of the kernels that draw tokens use them: with
// ties, infinities and NaN, with and without cuts.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "ops/logits.h"

namespace narrow::ops {

class RandomLogits {
 public:
  int64_t vocabulary;
  std::vector<float> logits;  // [rows, vocabulary]
  std::vector<LogitQuery> queries;

  RandomLogits(int64_t of_vocabulary, std::mt19937_64& random) : vocabulary(of_vocabulary) {
    for (int kind = 0; kind < 8; ++kind)
      for (const double temperature : {0.2, 1.0, 25.0})
        for (int cut = 0; cut < 4; ++cut) {
          add_row(kind, random);
          const int64_t many = vocabulary / 2 + 1;
          queries.push_back({.temperature = cut == 3 && kind == 0 ? 0 : temperature,
                             .top_k = cut % 2 == 0 ? 0 : (kind % 2 ? 40 : many),
                             .top_p = cut < 2 ? 1.0 : (kind % 2 ? 0.95 : 0.4),
                             .random = kind == 1 && cut == 0 ? ~uint64_t{0} : random()});
        }
  }

  int64_t rows() const { return static_cast<int64_t>(queries.size()); }
  std::span<const float> row(size_t i) const {
    const auto columns = static_cast<size_t>(vocabulary);
    return std::span(logits).subspan(i * columns, columns);
  }

 private:
  void add_row(int kind, std::mt19937_64& random) {
    std::normal_distribution<float> normal(0, 4);
    std::vector<float> row(static_cast<size_t>(vocabulary));
    for (float& logit : row) {
      logit = normal(random);
      if (kind == 1) logit = std::round(logit);         // many equal ones
      if (kind == 2) logit = 0.01f * logit - 3;         // nearly flat
      if (kind == 3) logit = logit > 0 ? 1.0f : -9.0f;  // two values
      if (kind == 4 && logit < 0) logit = -INFINITY;
      if (kind == 5) logit = -0.0f;
      if (kind == 7) logit = NAN;
    }
    if (kind == 6) row.back() = INFINITY;
    if (kind == 4)
      for (size_t i = 1; i < row.size(); i += 5) row[i] = NAN;
    logits.insert(logits.end(), row.begin(), row.end());
  }
};

}  // namespace narrow::ops
