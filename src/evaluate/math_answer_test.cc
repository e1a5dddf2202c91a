#include "evaluate/math_answer.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "evaluate/math_normalize.h"

namespace narrow::evaluate {
namespace {

TEST(MathAnswer, VerdictsEqualTheHarness) {
  int64_t rows = 0, verdicts = 0, original = 0, boxed = 0, normalized = 0;
  for_each_json_line(
      NARROW_SOURCE_DIR "/tests/goldens/checkers/math.jsonl.gz", [&](Json&& row, int64_t line) {
        ++rows;
        const std::string gold = row["gold"], answer = row["answer"];
        const std::string solution = "So the answer is $\\boxed{" + gold + "}$.";
        const std::string response =
            "Final Answer: The final answer is $" + answer + "$. I hope it is correct.";
        const auto check = [&](bool ours, const char* key, int64_t& count) {
          const bool theirs = row[key].get<int>() != 0;
          count += ours == theirs;
          if (ours != theirs)
            std::cerr << line << " " << key << " " << gold << " | " << answer << ": ours " << ours << "\n";
        };
        check(math_verdict(response, solution), "exact_match", verdicts);
        check(math_verdict_minerva(response, solution), "exact_match_original", original);
        check(math_verdict("Therefore the result is \\boxed{" + answer + "}", solution),
              "exact_match_boxed_candidate", boxed);
        for (const auto& [text, key] : {std::pair(gold, "normalized_gold"), {answer, "normalized_answer"}}) {
          normalized += math::normalize_minerva(text) == row[key].get<std::string>();
          if (math::normalize_minerva(text) != row[key].get<std::string>()) std::cerr << line << key << " " << math::normalize_minerva(text) << "\n";
        }
      });
  std::cerr << verdicts << " " << original << " " << boxed << " " << normalized << " of " << rows << "\n";
}

}  // namespace
}  // namespace narrow::evaluate
