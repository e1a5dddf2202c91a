// What becomes of logits (logits.cu, sampling.cu) on the host: the tokens that are drawn are those
// of ops/sampling.h, every one.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "ops/cuda/kernels.h"
#include "ops/random_logits.h"
#include "ops/sampling.h"

namespace narrow::ops::cuda {
namespace {

TEST(Logits, GiveTheTokensAndSumsOfTheHost) {
  std::mt19937_64 random(11);
  for (const int64_t vocabulary : {7, 2500}) {  // more than among which a cut is found directly
    RandomLogits of(vocabulary, random);
    for (size_t r = 0; r < of.queries.size(); ++r) {
      of.queries[r].normalize = r % 2 == 0;
      of.queries[r].target = r % 3 == 0 ? -1 : static_cast<int32_t>(r) % 7;
    }
    // Of each kind of row a third, with each way to cut it.
    for (size_t r = 0; r < of.queries.size(); r += 3) {
      LogitSummary got;
      int32_t chosen = -1;
      const float* const row = of.row(r).data();
      summarize_logits(row, &of.queries[r], &got, &chosen, 1, vocabulary, nullptr);
      sample_logits(row, &of.queries[r], &got, &chosen, 1, vocabulary, nullptr);
      const LogitSummary expected = summarize(of.row(r), of.queries[r]);
      EXPECT_EQ(got.chosen, expected.chosen) << "vocabulary " << vocabulary << ", row " << r;
      EXPECT_EQ(chosen, expected.chosen);
      EXPECT_EQ(got.argmax, expected.argmax);
      if (!std::isnan(expected.target)) {
        EXPECT_EQ(got.target, expected.target);
      }
      if (std::isfinite(expected.log_sum_exp)) {
        EXPECT_NEAR(got.log_sum_exp, expected.log_sum_exp, 1e-6);
      }
    }
  }
}

}  // namespace
}  // namespace narrow::ops::cuda
