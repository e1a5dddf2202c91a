// What becomes of logits (logits.cu, sampling.cu) on the host: the tokens that are drawn are those
// of ops/sampling.h, every one; the best ones and how far rows diverge are those of ops/logits.h.
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
    query.best_count = r % 4 == 0 ? 0 : r % 4 == 1 ? 3 : static_cast<int32_t>(kMostBest);
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

TEST(Logits, GiveTheTokensAndSumsOfTheHost) {
  std::mt19937_64 random(11);
  check(RandomLogits(7, random));
  // More than kFew (sampling.cu), so that the search for a cut divides the ranks.
  check(RandomLogits(2500, random));
}

// Rows of every kind against rows of the next kind, then of numbers and -∞ alone.
TEST(Logits, DivergeAsOnTheHost) {
  std::mt19937_64 random(12);
  for (const int64_t vocabulary : {7, 2500}) {
    const RandomLogits of(vocabulary, random);
    std::vector<float> p, q;
    std::vector<int32_t> targets;
    std::vector<LogitDivergence> expected;
    const auto add = [&](std::vector<float> of_p, std::vector<float> of_q, int32_t target) {
      expected.push_back(divergence(of_p, of_q, target));
      p.insert(p.end(), of_p.begin(), of_p.end());
      q.insert(q.end(), of_q.begin(), of_q.end());
      targets.push_back(target);
    };
    const auto row = [&](size_t r) {
      const auto numbers = of.row(r);
      return std::vector<float>(numbers.begin(), numbers.end());
    };
    const size_t rows = of.queries.size(), of_kind = rows / 8;
    for (size_t r = 0; r < rows; r += of_kind / 2)
      add(row(r), row((r + of_kind) % rows), static_cast<int32_t>(r % 7));
    const std::vector<float> numbers = row(0), others = row(1);
    std::vector<float> without = numbers, others_without = others;
    without[3] = others_without[3] = -INFINITY;
    add(without, others, 0);
    EXPECT_TRUE(std::isfinite(expected.back().kl));
    add(without, others_without, 0);
    EXPECT_TRUE(std::isfinite(expected.back().kl));
    add(numbers, others_without, 0);
    EXPECT_TRUE(std::isinf(expected.back().kl));

    std::vector<LogitDivergence> got(targets.size());
    compare_logits(p.data(), q.data(), targets.data(), got.data(),
                   static_cast<int64_t>(targets.size()), vocabulary, nullptr);
    const auto expect_near = [](double a, double b) {
      EXPECT_EQ(std::isnan(a), std::isnan(b));
      if (std::isinf(b)) {
        EXPECT_EQ(a, b);
      } else if (!std::isnan(b)) {
        EXPECT_NEAR(a, b, 1e-5);
      }
    };
    for (size_t r = 0; r < got.size(); ++r) {
      SCOPED_TRACE(r);
      expect_near(got[r].kl, expected[r].kl);
      expect_near(got[r].nll_p, expected[r].nll_p);
      expect_near(got[r].nll_q, expected[r].nll_q);
      EXPECT_EQ(got[r].same_argmax, expected[r].same_argmax);
    }
  }
}

}  // namespace
}  // namespace narrow::ops::cuda
