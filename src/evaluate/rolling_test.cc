// Windows of long texts and the perplexities made of them against the harness's own functions
// (tests/goldens/tasks/make_rolling.py); likelihoods of a model are in tests/tasks_test.cc.
#include "evaluate/rolling.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "evaluate/judge.h"
#include "evaluate/results.h"

namespace narrow::evaluate {
namespace {

const std::string kGoldens = std::string(NARROW_SOURCE_DIR) + "/tests/goldens/tasks/";

Json golden() {
  return parse_json(read_text_maybe_gz(kGoldens + "rolling.json.gz"), "rolling.json");
}

TEST(Rolling, WindowsEqualTheHarness) {
  int64_t compared = 0;
  const Json all = golden();
  for (const Json& row : all["windows"]) {
    Json windows = Json::array();
    for (const auto& window :
         rolling_windows(row["tokens"].get<std::vector<int32_t>>(), row["prefix"].get<int32_t>(),
                         row["length"].get<int64_t>()))
      windows.push_back({window.context, window.continuation});
    EXPECT_EQ(windows, row["windows"]);
    ++compared;
  }
  EXPECT_EQ(compared, 9);
}

// The harness's own log-likelihoods give its scores, of its own file and of ours.
TEST(Rolling, ScoresEqualTheHarness) {
  const TemporaryDirectory temporary;
  const auto& folder = temporary.path();
  std::filesystem::create_directory(folder / "pile_10k");
  const Json all = golden();
  EXPECT_EQ(all["runs"].size(), 4u);
  for (const Json& run : all["runs"]) {
    const auto name = run["task"].get<std::string>();
    SCOPED_TRACE(name + run["max_length"].dump());
    std::string lines;
    for (const Json& document : run["documents"]) lines += to_line(document) + "\n";
    write_text(folder / "pile_10k/train.jsonl", lines);
    const bool theirs = name == "pile_10k";
    const Task task = load_task(theirs ? kGoldens + "harness/pile_10k.yaml" : name,
                                theirs ? folder : std::filesystem::path(kGoldens + "data"));
    Prompter prompter(task, task.subtasks[0], {}, nullptr);
    std::vector<Json> rows;
    for (size_t i = 0; i < run["documents"].size(); ++i) {
      const Json& document = run["documents"][i];
      const Prompt prompt = prompter.next();
      EXPECT_EQ(prompt.continuations, std::vector{document["text"].get<std::string>()});
      EXPECT_EQ(count_words(prompt.counted), document["words"].get<int64_t>());
      EXPECT_EQ(static_cast<int64_t>(prompt.counted.size()), document["bytes"].get<int64_t>());
      rows.push_back({{"doc_id", i},
                      {"subtask", task.name},
                      {"doc_hash", ""},
                      {"prompt", ""},
                      {"continuations", prompt.continuations},
                      {"loglikelihoods", {document["loglikelihood"]}},
                      {"is_greedy", {false}}});
      judge(task, task.subtasks[0].test[i], prompt, rows.back());
    }
    const auto scores = summarize(task, rows, task.name);
    EXPECT_EQ(scores.size(), 3u);
    for (const Score& score : scores) {
      const double expected =
          run["scores"].at(score.metric.substr(0, score.metric.find(','))).get<double>();
      EXPECT_NEAR(score.mean / expected, 1, 1e-12) << score.metric;
      EXPECT_FALSE(score.standard_error);
    }
    const Json results = results_document({{&task, {}, "", rows}});
    EXPECT_EQ(results["higher_is_better"][task.name]["bits_per_byte"], false);
    // Its form of a sample: one request with one argument, one number, sum and count as the metric.
    const std::string samples = samples_lines(task, task.subtasks[0], rows);
    const Json sample = parse_json(samples.substr(0, samples.find('\n')), "samples");
    const Json& first = run["documents"][0];
    EXPECT_EQ(sample["arguments"], (Json{{"gen_args_0", {{"arg_0", first["text"]}}}}));
    EXPECT_EQ(sample["word_perplexity"], (Json{first["loglikelihood"], first["words"]}));
    EXPECT_EQ(sample["filtered_resps"][0], sample["resps"][0][0]);
  }
}

TEST(Rolling, TextsWithoutBytesHaveNoScore) {
  const TemporaryDirectory temporary;
  const auto& folder = temporary.path();
  write_text(folder / "rows.jsonl", "{\"t\": \"\"}\n");
  write_text(folder / "t.yaml",
             "name: t\nversion: 1\nkind: rolling\ndata: {test: [rows.jsonl]}\nanswer: '{{t}}'\n"
             "metrics: [byte_perplexity]\n");
  const Task task = load_task((folder / "t.yaml").string(), folder);
  Prompter prompter(task, task.subtasks[0], {}, nullptr);
  std::vector<Json> rows{{{"doc_id", 0}, {"subtask", "t"}, {"loglikelihoods", {0.0}}}};
  judge(task, task.subtasks[0].test[0], prompter.next(), rows[0]);
  EXPECT_THROW(summarize(task, rows, "t"), Error);
}

}  // namespace
}  // namespace narrow::evaluate
