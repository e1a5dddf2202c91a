#include "similarity/rouge.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "similarity/answers.h"

namespace narrow::similarity {
namespace {

// rouge_score 0.1.2 (tests/goldens/similarity/README.md).
TEST(Rouge, EqualsRougeScore) {
  int64_t pairs = 0;
  for_each_json_line(std::string(NARROW_SOURCE_DIR) + "/tests/goldens/similarity/rouge.jsonl",
                     [&](Json&& row, int64_t) {
                       SCOPED_TRACE(row["id"].dump());
                       const auto a = rouge_tokens(row["a"].get<std::string>());
                       const auto b = rouge_tokens(row["b"].get<std::string>());
                       const auto check = [&](const char* name, const Overlap& got) {
                         const Json& wanted = row["rouge"][name];
                         EXPECT_NEAR(got.precision, wanted[0].get<double>(), 1e-9) << name;
                         EXPECT_NEAR(got.recall, wanted[1].get<double>(), 1e-9) << name;
                         EXPECT_NEAR(got.f, wanted[2].get<double>(), 1e-9) << name;
                       };
                       check("rouge1", rouge_n(a, b, 1));
                       check("rouge2", rouge_n(a, b, 2));
                       check("rougeL", rouge_l(a, b));
                       ++pairs;
                     });
  EXPECT_GE(pairs, 15);
}

TEST(CompareAnswers, FindsTheFirstDivergence) {
  const TextPrompt prompt{"p", "question"};
  const Answer base{{1, 2, 3}, "one two three"};
  EXPECT_TRUE(compare_answers(prompt, base, base)["first_divergence"].is_null());
  EXPECT_EQ(compare_answers(prompt, base, {{1, 2, 4}, "one two four"})["first_divergence"], 2);
  // A shorter answer diverges where it ends.
  EXPECT_EQ(compare_answers(prompt, base, {{1, 2}, "one two"})["first_divergence"], 2);
}

}  // namespace
}  // namespace narrow::similarity
