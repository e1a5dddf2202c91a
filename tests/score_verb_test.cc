// narrow score as a program, against transformers (tests/goldens/logits/README.md), and windows of
// a text against the same tokens as prompts.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <numeric>

#include "base/file.h"
#include "base/json.h"
#include "base/temporary_directory.h"

namespace narrow {
namespace {

const std::string kModel = std::string(NARROW_SOURCE_DIR) + "/tests/goldens/stories260k";
const std::string kGolden =
    std::string(NARROW_SOURCE_DIR) + "/tests/goldens/logits/stories260K-float32.jsonl";

// What `narrow score` prints, both ways, and how it ends.
std::string run(const std::string& arguments, int* status) {
  const std::string command = std::string(NARROW_BINARY) + " score -q --backend reference '" +
                              kModel + "' " + arguments + " 2>&1";
  FILE* const out = popen(command.c_str(), "r");
  std::string text;
  char piece[4096];
  while (const size_t bytes = fread(piece, 1, sizeof piece, out)) text.append(piece, bytes);
  *status = pclose(out);
  return text;
}

// A row a line.
std::vector<Json> score(const std::string& arguments) {
  int status = 0;
  const std::string text = run(arguments, &status);
  EXPECT_EQ(status, 0) << text;
  std::vector<Json> rows;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    rows.push_back(parse_json(text.substr(begin, end - begin), "stdout"));
    begin = end + 1;
  }
  return rows;
}

std::vector<double> logprobs_of(const Json& row) {
  return row.at("logprobs").get<std::vector<double>>();
}

std::string prompt_row(const std::string& id, const std::vector<int32_t>& ids) {
  return to_line({{"id", id}, {"token_ids", ids}}) + "\n";
}

TEST(ScoreVerb, GivesPromptsTheLogprobsOfTransformers) {
  const TemporaryDirectory root;
  std::string prompts;
  std::vector<Json> golden;
  for_each_json_line(kGolden, [&](Json&& row, int64_t) {
    prompts += prompt_row(row["prompt_id"], row["token_ids"]);
    golden.push_back(std::move(row));
  });
  const auto rows =
      score("--top 5 --prompts '" + root.file("prompts.jsonl", prompts).string() + "'");
  ASSERT_EQ(rows.size(), golden.size());
  for (size_t r = 0; r < rows.size(); ++r) {
    EXPECT_EQ(rows[r]["id"], golden[r]["prompt_id"]);
    EXPECT_EQ(rows[r]["token_ids"], golden[r]["token_ids"]);
    const auto expected = golden[r]["next_token_logprobs"].get<std::vector<double>>();
    const auto got = logprobs_of(rows[r]);
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-4);
    const Json &top = rows[r]["top"], &logprobs = golden[r]["last_top5_logprobs"];
    ASSERT_EQ(top.size(), 5);
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(top[i][0], golden[r]["last_top5_ids"][i]);
      EXPECT_NEAR(top[i][1].get<double>(), logprobs[i].get<double>(), 1e-4);
    }
  }
}

TEST(ScoreVerb, ScoresATokenOfOverlappingWindowsOnce) {
  const TemporaryDirectory root;
  const std::string text = "Once upon a time there was a little girl who had a dog. They ran.";
  const auto one = root.file("one.jsonl", to_line({{"id", "one"}, {"text", text}}) + "\n");
  const auto ids = score("--top 0 --prompts '" + one.string() + "'")
                       .at(0)["token_ids"]
                       .get<std::vector<int32_t>>();
  constexpr std::ptrdiff_t kWindow = 12, kStride = 5;
  const auto windows = (static_cast<std::ptrdiff_t>(ids.size()) - kWindow) / kStride + 1;
  ASSERT_GE(windows, 3);
  std::string prompts;
  for (std::ptrdiff_t w = 0; w < windows; ++w) {
    const auto begin = ids.begin() + w * kStride;
    prompts += prompt_row(std::to_string(w), {begin, begin + kWindow});
  }
  const auto alone =
      score("--top 0 --prompts '" + root.file("windows.jsonl", prompts).string() + "'");
  const Json scored =
      score("--json --window 12 --stride 5 --text '" + root.file("text", text).string() + "'")
          .at(0);
  ASSERT_EQ(scored["windows"], windows);
  double sum = 0;
  std::ptrdiff_t count = 0;
  for (size_t w = 0; w < alone.size(); ++w) {
    auto expected = logprobs_of(alone[w]);
    if (w > 0) expected.erase(expected.begin(), expected.end() - kStride);
    EXPECT_EQ(logprobs_of({{"logprobs", scored["logprobs"][w]}}), expected);
    sum = std::accumulate(expected.begin(), expected.end(), sum);
    count += static_cast<std::ptrdiff_t>(expected.size());
  }
  EXPECT_EQ(count, kWindow - 1 + (windows - 1) * kStride);
  EXPECT_EQ(scored["predictions"], count);
  EXPECT_NEAR(scored["perplexity"].get<double>(), std::exp(-sum / static_cast<double>(count)),
              1e-9);
}

TEST(ScoreVerb, GivesMoreAlternativesThanASummaryHas) {
  const TemporaryDirectory root;
  const std::string prompts =
      "--prompts '" + root.file("prompts.jsonl", prompt_row("a", {1, 403, 5})).string() + "'";
  const Json few = score("--top 20 " + prompts).at(0)["top"];
  const Json more = score("--top 600 " + prompts).at(0)["top"];
  ASSERT_EQ(few.size(), 20);
  ASSERT_EQ(more.size(), 512);  // the vocabulary
  for (size_t i = 0; i < few.size(); ++i) EXPECT_EQ(few[i], more[i]);
}

TEST(ScoreVerb, RefusesWhatItCannotScoreBeforeItBegins) {
  const TemporaryDirectory root;
  const auto expect = [](const std::string& arguments, int exit_status, const std::string& what) {
    int status = 0;
    const std::string text = run(arguments, &status);
    EXPECT_EQ(WEXITSTATUS(status), exit_status) << text;
    EXPECT_NE(text.find(what), std::string::npos) << text;
    EXPECT_EQ(text.find("logprobs"), std::string::npos) << text;  // no row has been printed
  };
  const auto empty = root.file("empty.jsonl", prompt_row("good", {1, 2}) + prompt_row("bad", {}));
  expect("--prompts '" + empty.string() + "'", 2, "prompt bad: has no tokens");
  const auto text = root.file("text", "Once upon a time");
  expect("--window 514 --text '" + text.string() + "'", 2, "514 tokens exceed the 513");
  expect("--window 100 --text '" + text.string() + "'", 2, "less than one window");
  expect("--window 4 --stride 5 --text '" + text.string() + "'", 2, "must not exceed --window");
}

}  // namespace
}  // namespace narrow
