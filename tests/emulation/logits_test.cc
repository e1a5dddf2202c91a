// What becomes of logits (logits.cu, sampling.cu) on the host: the tokens that are drawn are those
// of ops/sampling.h, every one.
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "ops/cuda/kernels.h"
#include "ops/logits.h"
#include "ops/random_logits.h"

namespace narrow::ops::cuda {
namespace {

// Of each kind of row a third, with each way to cut it.
void check(const RandomLogits& of) {
  std::vector<float> logits;
  std::vector<LogitQuery> queries;
  std::vector<LogitSummary> expected;
  for (size_t r = 0; r < of.queries.size(); r += 3) {
    const auto row = of.row(r);
    logits.insert(logits.end(), row.begin(), row.end());
    LogitQuery query = of.queries[r];
    query.normalize = r % 2 == 0;
    query.target = r % 5 == 0 ? -1 : static_cast<int32_t>(r % 7);
    query.best = r % 4 == 0 ? 0 : r % 4 == 1 ? 3 : static_cast<int32_t>(kMostBest);
    queries.push_back(query);
    expected.push_back(summarize(row, query));
  }
  const auto rows = static_cast<int64_t>(queries.size());
  std::vector<LogitSummary> got(queries.size());
  std::vector<int32_t> chosen(queries.size(), -1);
  summarize_logits(logits.data(), queries.data(), got.data(), chosen.data(), rows, of.vocabulary,
                   nullptr);
  sample_logits(logits.data(), queries.data(), got.data(), chosen.data(), rows, of.vocabulary,
                nullptr);
  for (size_t r = 0; r < got.size(); ++r) {
    EXPECT_EQ(got[r].chosen, expected[r].chosen) << of.vocabulary << " tokens, row " << r;
    EXPECT_EQ(chosen[r], expected[r].chosen);
    EXPECT_EQ(got[r].argmax, expected[r].argmax);
    if (!std::isnan(expected[r].target)) {
      EXPECT_EQ(got[r].target, expected[r].target);
    }
    for (size_t i = 0; i < kMostBest; ++i) {
      EXPECT_EQ(got[r].best[i].id, expected[r].best[i].id) << of.vocabulary << ", row " << r;
      if (!std::isnan(expected[r].best[i].logit)) {
        EXPECT_EQ(got[r].best[i].logit, expected[r].best[i].logit);
      }
    }
    if (!std::isnan(expected[r].chosen_logit)) {
      EXPECT_EQ(got[r].chosen_logit, expected[r].chosen_logit);
    }
    if (std::isfinite(expected[r].log_sum_exp)) {  // the same exponentials in another order
      EXPECT_NEAR(got[r].log_sum_exp, expected[r].log_sum_exp, 1e-6);
    }
  }
}

// Rows of every kind against rows of the next kind. What is no number there is none here.
TEST(Logits, DivergeAsOnTheHost) {
  std::mt19937_64 random(12);
  for (const int64_t vocabulary : {7, 2500}) {
    const RandomLogits of(vocabulary, random);
    std::vector<float> p, q;
    std::vector<int32_t> targets;
    std::vector<LogitDivergence> expected;
    const size_t rows = of.queries.size(), of_kind = rows / 8;
    for (size_t r = 0; r < rows; r += of_kind / 2) {
      const auto row = of.row(r), other = of.row((r + of_kind) % rows);
      p.insert(p.end(), row.begin(), row.end());
      q.insert(q.end(), other.begin(), other.end());
      targets.push_back(static_cast<int32_t>(r % 7));
      expected.push_back(divergence(row, other, targets.back()));
    }
    std::vector<LogitDivergence> got(targets.size());
    compare_logits(p.data(), q.data(), targets.data(), got.data(),
                   static_cast<int64_t>(targets.size()), vocabulary, nullptr);
    const auto expect_near = [](double a, double b) {
      if (std::isfinite(b)) {
        EXPECT_NEAR(a, b, 1e-5);
      }
      EXPECT_EQ(std::isfinite(a), std::isfinite(b));
    };
    for (size_t r = 0; r < got.size(); ++r) {
      expect_near(got[r].kl, expected[r].kl);
      expect_near(got[r].nll_p, expected[r].nll_p);
      expect_near(got[r].nll_q, expected[r].nll_q);
      EXPECT_EQ(got[r].same_argmax, expected[r].same_argmax) << "row " << r;
    }
  }
}

TEST(Logits, GiveTheTokensAndSumsOfTheHost) {
  std::mt19937_64 random(11);
  check(RandomLogits(7, random));
  // More than kFew (sampling.cu), so that the search for a cut divides the ranks.
  check(RandomLogits(2500, random));
}

}  // namespace
}  // namespace narrow::ops::cuda
