// Every task of both leaderboards and Llama 3.1's variants against lm-evaluation-harness 0.4.13:
// prompts byte for byte, likelihoods within the cpu backend's accuracy, scores exactly
// (tests/goldens/tasks/README.md).
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "engine/engine.h"
#include "evaluate/judge.h"
#include "evaluate/rolling.h"
#include "evaluate/run.h"
#include "evaluate/suite.h"

namespace narrow {
namespace {

const std::string kGoldens = std::string(NARROW_SOURCE_DIR) + "/tests/goldens/tasks/";
const std::string kSmolLM = std::string(NARROW_DATA_DIR) + "/models/SmolLM2-135M-Instruct.gguf";
// As in evaluation_test.cc: bf16 inputs against float32.
constexpr double kTolerance = 0.3;

engine::Engine& model() {
  static engine::Engine engine(kSmolLM, {.backend = "cpu"});
  return engine;
}

std::vector<Json> golden_rows(const std::string& label) {
  std::vector<Json> rows;
  for_each_json_line(kGoldens + label + ".jsonl.gz",
                     [&](Json&& row, int64_t) { rows.push_back(std::move(row)); });
  return rows;
}

// The harness shuffles GPQA's answers set after set, which only the whole group repeats; other
// groups would want the rows of all their subtasks.
evaluate::Task load(const std::string& name) {
  const bool gpqa = name.starts_with("leaderboard_gpqa") && name.find('@') == std::string::npos;
  return evaluate::load_task(gpqa ? "leaderboard_gpqa" : name, kGoldens + "data");
}

const evaluate::Subtask& subtask(const evaluate::Task& task, const std::string& name) {
  return *std::find_if(task.subtasks.begin(), task.subtasks.end(),
                       [&](const evaluate::Subtask& one) { return one.name == name; });
}

// Documents of a golden file by task and options, in order.
std::map<std::string, std::vector<Json>> runs_of(const std::string& label) {
  std::map<std::string, std::vector<Json>> runs;
  for (Json& row : golden_rows(label))
    runs[row["task"].get<std::string>() + row.value("multiturn", Json()).dump()].push_back(
        std::move(row));
  return runs;
}

void expect_prompts(const evaluate::Task& task, const evaluate::Subtask& of,
                    const std::vector<Json>& rows) {
  const bool chat = rows[0].contains("multiturn");
  const evaluate::PromptOptions options{rows[0]["shots"].get<int64_t>(), chat,
                                        chat && rows[0]["multiturn"].get<bool>()};
  evaluate::check_shots(task, options);
  evaluate::Prompter prompter(task, of, options, chat ? &model() : nullptr);
  for (const Json& row : rows) {
    const evaluate::Prompt prompt = prompter.next();
    EXPECT_EQ(Json(prompt.contexts), row["contexts"]);
    EXPECT_EQ(Json(prompt.continuations), row["continuations"]);
    // A choice is named by its text or by its index.
    if (row["target"] != std::to_string(prompt.gold)) {
      EXPECT_EQ(prompt.target, row["target"].get<std::string>());
    }
  }
}

TEST(Tasks, PromptsEqualTheHarness) {
  std::set<std::string> names;
  for (const auto& [key, rows] : runs_of("prompts")) {
    SCOPED_TRACE(key);
    const auto name = rows[0]["task"].get<std::string>();
    names.insert(name);
    const evaluate::Task task = load(name);
    EXPECT_EQ(task.shots, rows[0]["shots"].get<int64_t>());
    expect_prompts(task, subtask(task, name), rows);
  }
  EXPECT_EQ(names.size(), 24u + 3 + 3 + 7 + 1 + 1 + 5);
}

// The version that the study ran: V1's six tasks, V2's six groups, Llama's variant of GSM8K.
TEST(Tasks, PromptsEqualTheHarness045) {
  std::set<std::string> names;
  const std::string v1 = std::string(NARROW_SOURCE_DIR) + "/tests/goldens/evaluation/data";
  for (const auto& [key, rows] : runs_of("prompts-0.4.5")) {
    SCOPED_TRACE(key);
    const auto name = rows[0]["task"].get<std::string>(), old = name + "@0.4.5";
    names.insert(name);
    const bool leaderboard1 =
        !name.starts_with("leaderboard_") && name != "truthfulqa_mc2" && name != "gsm8k_cot_llama";
    const evaluate::Task task =
        name.starts_with("leaderboard_gpqa")
            ? load("leaderboard_gpqa@0.4.5")
            : evaluate::load_task(old, leaderboard1 ? v1 : kGoldens + "data");
    EXPECT_EQ(task.version, rows[0]["version"]);
    expect_prompts(task, subtask(task, old), rows);
  }
  EXPECT_EQ(names.size(), 6u + 3 + 3 + 3 + 1 + 1 + 1 + 1);
}

// With the numbers of examples of V1, which are drawn; and five drawn ones as turns.
TEST(Tasks, DrawnExamplesEqualTheHarness) {
  const auto check = [](const std::string& name, const std::string& label, int64_t shots,
                        bool chat) {
    SCOPED_TRACE(label);
    const evaluate::Task task = evaluate::load_task(
        name, std::string(NARROW_SOURCE_DIR) + "/tests/goldens/evaluation/data");
    evaluate::Prompter prompter(task, task.subtasks[0], {shots, chat}, chat ? &model() : nullptr);
    const auto rows = golden_rows(label);
    EXPECT_GE(rows.size(), 2u);
    for (const Json& row : rows) {
      const evaluate::Prompt prompt = prompter.next();
      EXPECT_EQ(prompt.contexts, std::vector{row["prompt"].get<std::string>()});
      if (row.contains("continuations")) {
        EXPECT_EQ(Json(prompt.continuations), row["continuations"]);
      }
    }
  };
  check("arc_challenge", "arc_challenge-25shot-prompts", 25, false);
  check("hellaswag", "hellaswag-10shot-prompts", 10, false);
  check("gsm8k", "gsm8k-5shot-chat-prompts", 5, true);
}

void compare(const std::string& name, const std::string& label, bool chat) {
  const evaluate::Task task = load(name);
  evaluate::Prompter prompter(task, task.subtasks.front(), {std::nullopt, chat}, &model());
  for (const Json& row : golden_rows(label)) {
    SCOPED_TRACE(label + " document " + row["doc_id"].dump());
    const evaluate::Prompt prompt = prompter.next();
    ASSERT_EQ(prompt.contexts, std::vector{row["prompt"].get<std::string>()});
    ASSERT_EQ(Json(prompt.continuations), row["continuations"]);
    for (size_t i = 0; i < prompt.continuations.size(); ++i) {
      const auto request =
          evaluate::score_request(model(), prompt.contexts[0], prompt.continuations[i], chat);
      EXPECT_EQ(request.context.size(), row["context_tokens"][i].get<size_t>());
      EXPECT_EQ(Json(request.continuation), row["continuation_ids"][i]);
      EXPECT_NEAR(model().score(request).get().sum(), row["loglikelihoods"][i].get<double>(),
                  kTolerance);
    }
    // The harness's own likelihoods give its score.
    Json judged{{"doc_id", row["doc_id"]}, {"loglikelihoods", row["loglikelihoods"]}};
    evaluate::judge(task, task.subtasks.front().test[row["doc_id"].get<size_t>()], prompt, judged);
    for (const auto& [metric, value] : row["metrics"].items())
      EXPECT_NEAR(judged["metrics"][name == "truthfulqa_mc2" ? "mc2" : metric].get<double>(),
                  value.get<double>(), 1e-6);
    EXPECT_EQ(judged["target"], row["target"]);
  }
}

TEST(Tasks, TruthfulQa) { compare("truthfulqa_mc2", "truthfulqa_mc2", false); }
TEST(Tasks, MmluPro) { compare("leaderboard_mmlu_pro", "leaderboard_mmlu_pro-5shot", false); }
TEST(Tasks, BigBenchHard) {
  const std::string booleans = "leaderboard_bbh_boolean_expressions";
  compare(booleans, booleans + "-3shot", false);
  compare(booleans, booleans + "-3shot-chat", true);
  compare("leaderboard_bbh_date_understanding", "leaderboard_bbh_date_understanding-3shot", false);
}

TEST(Tasks, IfevalScores) {
  const evaluate::Task task = load("leaderboard_ifeval");
  evaluate::Prompter prompter(task, task.subtasks.front(), {0, true}, &model());
  for (const Json& row : golden_rows("leaderboard_ifeval-chat")) {
    const evaluate::Prompt prompt = prompter.next();
    EXPECT_EQ(prompt.contexts[0], row["prompt"].get<std::string>());
    Json judged{{"doc_id", row["doc_id"]}, {"response", row["response"]}};
    evaluate::judge(task, task.subtasks.front().test[row["doc_id"].get<size_t>()], prompt, judged);
    for (const auto& [metric, value] : row["metrics"].items()) {
      double followed = 0, count = 1;
      if (value.is_array()) {
        for (const Json& one : value) followed += one.get<bool>();
        count = static_cast<double>(value.size());
      } else {
        followed = value.get<bool>();
      }
      EXPECT_DOUBLE_EQ(judged["metrics"][metric].get<double>(), followed / count) << metric;
    }
  }
}

// Texts longer than the context, in windows: the tokens and likelihoods of the harness on the same
// weights in float32, for the model's context and a shorter one.
TEST(Tasks, RollingLikelihoods) {
  const Json golden = parse_json(read_text_maybe_gz(kGoldens + "rolling.json.gz"), "rolling.json");
  const TemporaryDirectory temporary;
  const std::filesystem::path& folder = temporary.path();
  std::filesystem::create_directory(folder / "pile_10k");
  size_t most_windows = 0;
  for (const Json& run : golden["runs"]) {
    const auto name = run["task"].get<std::string>();
    SCOPED_TRACE(name + " " + run["max_length"].dump());
    std::string lines;
    for (const Json& document : run["documents"]) lines += to_line(document) + "\n";
    write_text(folder / "pile_10k/train.jsonl", lines);
    const bool theirs = name == "pile_10k";
    const evaluate::Task task =
        evaluate::load_task(theirs ? kGoldens + "harness/pile_10k.yaml" : name,
                            theirs ? folder.string() : kGoldens + "data");
    engine::Engine engine(
        NARROW_SOURCE_DIR "/tests/goldens/stories260k",
        {.backend = "reference", .max_context = run["max_length"].get<int64_t>()});
    size_t index = 0;
    evaluate::run(task, engine, {}, {}, [&](int64_t, Json row) {
      const Json& expected = run["documents"][index++];
      Json windows = Json::array();
      for (const auto& window :
           evaluate::rolling_requests(engine, row["continuations"][0].get<std::string>()))
        windows.push_back({window.context, window.continuation});
      EXPECT_EQ(windows, expected["windows"]);
      most_windows = std::max(most_windows, windows.size());
      size_t tokens = 0;
      for (const Json& window : windows) tokens += window[1].size();
      // A logit near 20 is good to 2e-6 in float32, the log-likelihood of a token to a few times
      // that.
      EXPECT_NEAR(row["loglikelihoods"][0].get<double>(), expected["loglikelihood"].get<double>(),
                  1e-5 * static_cast<double>(tokens));
    });
    EXPECT_EQ(index, run["documents"].size());
  }
  EXPECT_GT(most_windows, 10u);
}

// Choices of one token each cost one pass, and are the same to the bit as asked one by one.
TEST(Tasks, SingleTokenChoicesAreScoredInOnePass) {
  const evaluate::Task task = load("mmlu_anatomy");
  const evaluate::RunOptions options{2, {1, false}};
  evaluate::Prompter prompter(task, task.subtasks.front(), options.prompt, &model());
  engine::Engine fresh(kSmolLM, {.backend = "cpu"});
  int64_t rows = 0, context = 0;
  evaluate::run(task, fresh, options, {}, [&](int64_t, Json row) {
    const evaluate::Prompt prompt = prompter.next();
    for (size_t i = 0; i < prompt.continuations.size(); ++i) {
      const auto request =
          evaluate::score_request(model(), prompt.contexts[0], prompt.continuations[i], false);
      ASSERT_EQ(request.continuation.size(), 1u);
      if (i == 0) context += static_cast<int64_t>(request.context.size());
      const auto result = model().score(request).get();
      EXPECT_EQ(row["loglikelihoods"][i].get<double>(), result.sum());
      EXPECT_EQ(row["is_greedy"][i].get<bool>(), result.all_greedy());
    }
    ++rows;
  });
  EXPECT_EQ(rows, 2);
  const engine::Stats stats = fresh.stats();
  EXPECT_EQ(stats.prompt_tokens + stats.cached_tokens, context);
}

TEST(Tasks, SuitesNameTasksThatAreThere) {
  for (const char* suite : {"leaderboard-v1", "leaderboard-v2"}) {
    const auto requests = evaluate::expand_suites({suite});
    EXPECT_EQ(requests.size(), 6u);
    const auto names = evaluate::task_names();
    for (const evaluate::TaskRequest& request : requests) {
      EXPECT_TRUE(std::binary_search(names.begin(), names.end(), request.name)) << request.name;
      EXPECT_EQ(request.suite, suite);
    }
  }
}

TEST(Tasks, AVersionIsPartOfTheName) {
  const auto requests = evaluate::expand_suites({"leaderboard-v1@0.4.5", "gsm8k"});
  ASSERT_EQ(requests.size(), 7u);
  EXPECT_EQ(requests[0].name, "arc_challenge@0.4.5");
  EXPECT_EQ(requests[0].suite, "leaderboard-v1@0.4.5");
  EXPECT_EQ(requests[6].name, "gsm8k");
  const auto task = load("leaderboard_musr@0.4.5");
  EXPECT_EQ(task.name, "leaderboard_musr@0.4.5");
  EXPECT_EQ(task.subtasks[0].name, "leaderboard_musr_murder_mysteries@0.4.5");
  EXPECT_THROW(load("gsm8k_llama@0.4.5"), Error);  // came later
  EXPECT_THROW(load("gsm8k@0.4.6"), Error);
}

}  // namespace
}  // namespace narrow
