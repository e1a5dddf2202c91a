// Prompts byte for byte, tokens, and per-document log-likelihoods against lm-evaluation-harness
// 0.4.13 (tests/goldens/evaluation/README.md).
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "base/temporary_directory.h"
#include "engine/engine.h"
#include "evaluate/run.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

const std::string kGoldens = std::string(NARROW_SOURCE_DIR) + "/tests/goldens/evaluation/";
const std::string kSmolLM = std::string(NARROW_DATA_DIR) + "/models/SmolLM2-135M-Instruct.gguf";

engine::Engine& model() {
  static engine::Engine engine(kSmolLM, {.backend = "cpu"});
  return engine;
}

// lm-evaluation-harness ran in float32; on the cpu backend inputs of linears and the KV cache are
// bf16, which moves a sum over some twenty tokens by a few tenths at most.
constexpr double kTolerance = 0.3;

std::vector<Json> golden_rows(const std::string& label) {
  std::vector<Json> rows;
  for_each_json_line(kGoldens + label + ".jsonl.gz",
                     [&](Json&& row, int64_t) { rows.push_back(std::move(row)); });
  return rows;
}

void compare(const evaluate::Task& task, const std::string& label, int64_t shots, bool chat) {
  const std::vector<Json> golden = golden_rows(label);
  evaluate::Prompter prompter(task, task.subtasks.front(), {shots, chat}, &model());
  int64_t documents = 0;
  evaluate::Prompt prompt;
  for (const Json& row : golden) {
    SCOPED_TRACE(label + " document " + row["doc_id"].dump());
    if (row["filter"] != "flexible-extract") {  // gsm8k has two lines a document
      prompt = prompter.next();
      ++documents;
    }
    const Json expected = row["prompt"].is_array() ? row["prompt"] : Json::array({row["prompt"]});
    ASSERT_EQ(Json(prompt.contexts), expected);
    if (!row.contains("continuations")) {
      EXPECT_EQ(evaluate::generation_prompt(model(), prompt.contexts[0], 128, chat).size(),
                row["prompt_tokens"].get<size_t>());
      continue;
    }
    ASSERT_EQ(Json(prompt.continuations), row["continuations"]);
    for (size_t i = 0; i < prompt.continuations.size(); ++i) {
      const auto request =
          evaluate::score_request(model(), prompt.contexts[prompt.contexts.size() == 1 ? 0 : i],
                                  prompt.continuations[i], chat);
      EXPECT_EQ(request.context.size(), row["context_tokens"][i].get<size_t>());
      EXPECT_EQ(Json(request.continuation), row["continuation_ids"][i]);
      EXPECT_NEAR(model().score(request).get().sum(), row["loglikelihoods"][i].get<double>(),
                  kTolerance);
    }
  }
  EXPECT_GE(documents, 4);
}

evaluate::Task load(const std::string& name) {
  return evaluate::load_task(name, kGoldens + "data");
}

TEST(Evaluation, HellaSwag) { compare(load("hellaswag"), "hellaswag-0shot", 0, false); }
TEST(Evaluation, ArcFiveShots) { compare(load("arc_challenge"), "arc_challenge-5shot", 5, false); }
TEST(Evaluation, ArcChat) { compare(load("arc_challenge"), "arc_challenge-0shot-chat", 0, true); }
TEST(Evaluation, WinograndeFiveShots) { compare(load("winogrande"), "winogrande-5shot", 5, false); }
TEST(Evaluation, Gsm8kFiveShots) { compare(load("gsm8k"), "gsm8k-5shot", 5, false); }

// In float32 as the harness: only the order of sums differs.
TEST(Evaluation, HellaSwagOnReference) {
  engine::Engine reference(kSmolLM, {.backend = "reference"});
  const evaluate::Task task = load("hellaswag");
  evaluate::Prompter prompter(task, task.subtasks.front(), {0, false}, &reference);
  const std::vector<Json> golden = golden_rows("hellaswag-0shot");
  for (size_t document = 0; document < 2; ++document) {
    const evaluate::Prompt prompt = prompter.next();
    for (size_t i = 0; i < prompt.continuations.size(); ++i) {
      const auto request =
          evaluate::score_request(reference, prompt.contexts[0], prompt.continuations[i], false);
      EXPECT_NEAR(reference.score(request).get().sum(),
                  golden.at(document)["loglikelihoods"][i].get<double>(), 2e-3);
    }
  }
}

// The harness's own responses give its answers and its scores.
TEST(Evaluation, Gsm8kAnswersAndScores) {
  const evaluate::Task task = load("gsm8k");
  int64_t rows = 0;
  for (const Json& row : golden_rows("gsm8k-5shot")) {
    for (const evaluate::Filter& filter : task.filters) {
      if (filter.name != row["filter"]) continue;
      const std::string answer = filter.answer(row["response"].get<std::string>(), {});
      EXPECT_EQ(answer, row["filtered"][0]) << row["doc_id"];
      EXPECT_EQ(task.exact_match.matches(answer, row["target"].get<std::string>()),
                row["metrics"]["exact_match"] == 1.0)
          << row["doc_id"];
      ++rows;
    }
  }
  EXPECT_GE(rows, 8);
}

TEST(Evaluation, MmluFiveShots) {
  // The task with one of its subjects, since the goldens hold the rows of one.
  std::string yaml = read_text(fs::path(NARROW_SOURCE_DIR) / "tasks" / "mmlu.yaml");
  yaml = yaml.substr(0, yaml.find("subtasks:")) + "subtasks: [anatomy]\n";
  const TemporaryDirectory folder;
  compare(load(folder.file("mmlu_anatomy.yaml", yaml).string()), "mmlu_anatomy-5shot", 5, false);
}

}  // namespace
}  // namespace narrow
