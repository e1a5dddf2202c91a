#include "evaluate/choice_letter.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/temporary_directory.h"
#include "evaluate/documents.h"
#include "evaluate/metric.h"
#include "evaluate/prompt.h"
#include "evaluate/task.h"

namespace narrow::evaluate {
namespace {

Json golden() {
  return parse_json(
      read_text_maybe_gz(NARROW_SOURCE_DIR "/tests/goldens/tasks/gpqa_diamond.json.gz"),
      "gpqa_diamond.json");
}

TEST(ChoiceLetter, IsTheOneLightEvalFinds) {
  for (const Json& verdict : golden()["verdicts"]) {
    const auto response = verdict["response"].get<std::string>();
    const auto letter = choice_letter(response);
    EXPECT_EQ(letter ? std::string(1, *letter) : "", verdict["letter"]) << response;
  }
}

TEST(ChoiceLetter, LeavesReasoningOut) {
  EXPECT_EQ(choice_letter("<think>The answer is A.</think>\nAnswer: B"), 'B');
  EXPECT_EQ(choice_letter("<think>x</think>I take C.<think>The final answer is D</think>"), 'C');
  EXPECT_EQ(choice_letter("</think> Answer: A <think> never ended. Answer: B"), 'B');
  EXPECT_EQ(choice_letter("<think>Answer: A</think>"), std::nullopt);
}

// Prompts and the places of right answers, which LightEval draws.
TEST(ChoiceLetter, QuestionsOfGpqaDiamondAreLightEvals) {
  const Json expected = golden();
  const TemporaryDirectory temporary;
  const auto& folder = temporary.path();
  std::string lines;
  for (const Json& row : expected["rows"]) lines += row.dump() + "\n";
  std::filesystem::create_directory(folder / "gpqa");
  write_text(folder / "gpqa" / "gpqa_diamond.jsonl", lines);
  const Task task = load_task("gpqa_diamond", folder);
  Prompter prompter(task, task.subtasks[0], {}, nullptr);
  for (size_t i = 0; i < expected["prompts"].size(); ++i) {
    EXPECT_EQ(prompter.next().contexts[0], expected["prompts"][i]["query"]) << i;
    EXPECT_EQ(task.subtasks[0].test[i]["answer"], expected["prompts"][i]["gold"]) << i;
  }
}

TEST(ChoiceLetter, IsJudged) {
  const MetricKind* kind = find_metric_kind("choice_letter");
  ASSERT_TRUE(kind);
  const Json document{{"answer", "B"}};
  EXPECT_EQ(kind->judge(document, "Answer: B")[0].value, 1);
  EXPECT_EQ(kind->judge(document, "Answer: C")[0].value, 0);
  EXPECT_EQ(kind->judge(document, "")[0].value, 0);
}

}  // namespace
}  // namespace narrow::evaluate
