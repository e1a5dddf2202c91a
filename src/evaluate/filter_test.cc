#include "evaluate/filter.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/json.h"
#include "evaluate/code_block.h"

namespace narrow::evaluate {
namespace {

// Texts with what the harness's filters take from them (tests/goldens/checkers).
TEST(Filter, AnswersEqualTheHarness) {
  struct Named {
    const char* key;
    Pattern pattern;
    int index;
  };
  std::vector<Named> filters;
  filters.push_back({"gsm8k_strict", Pattern(R"(#### (\-?[0-9\.\,]+))"), 0});
  filters.push_back({"gsm8k_flexible", Pattern(R"((-?[$0-9.,]{2,})|(-?[0-9]+))"), -1});
  filters.push_back({"gsm8k_llama", Pattern(R"(final answer is (\-?[0-9\.\,]+))"), -1});
  filters.push_back({"choice_letter", Pattern("([ABCD])"), 0});
  filters.push_back({"mmlu_cot_llama", Pattern("best answer is ([A-Z])"), -1});
  ExactMatch match;
  match.ignore_case = true;
  for (const char* pattern : {",", "\\$", "(?s).*#### ", "\\.$"})
    match.ignore.emplace_back(pattern);
  int64_t rows = 0;
  for_each_json_line(
      NARROW_SOURCE_DIR "/tests/goldens/checkers/filters.jsonl.gz", [&](Json&& row, int64_t) {
        ++rows;
        const std::string text = row["text"], gold = row["gold"];
        for (const Named& filter : filters)
          EXPECT_EQ(extract(filter.pattern, filter.index, text), row[filter.key])
              << filter.key << ": " << text;
        for (const std::string key : {"gsm8k_strict", "gsm8k_flexible"})
          EXPECT_EQ(match.matches(row[key], gold), row[key + "_exact_match"].get<double>() == 1)
              << key << ": " << text << " | " << gold;
        EXPECT_EQ(first_code_block(text), row["mbpp_instruct_code_block"]) << text;
      });
  EXPECT_EQ(rows, 64);
}

TEST(Pattern, ReplacesAndMatchesLikePythonsRe) {
  EXPECT_EQ(Pattern("(a)(b)?").replace_all("ab a", R"([\2|\1])"), "[b|a] [|a]");
  EXPECT_EQ(Pattern("x*").replace_all("abc", "-"), "-a-b-c-");
  EXPECT_EQ(Pattern("é").replace_all("é\xff", R"(\\)"), "\\\xEF\xBF\xBD");
  const auto matches = Pattern("(\\d)|(\\w)").matches("é1");
  ASSERT_EQ(matches.size(), 2u);
  EXPECT_EQ(matches[0].end, 2u);
  EXPECT_FALSE(matches[0].groups[0]);
  EXPECT_EQ(matches[1].groups[0], "1");
}

TEST(Pattern, ThreadsMayShareOne) {
  const Pattern words("(\\w)\\w*");
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (const char first : {'a', 'b'})
    threads.emplace_back([&, first] {
      const std::string text = std::string(1, first) + "1 " + first + "2";
      for (int i = 0; i < 20000; ++i)
        wrong += words.find_all(text) != std::vector<std::string>(2, std::string(1, first));
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace narrow::evaluate
