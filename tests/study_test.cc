// A study on stories260K: killed at many instants and run again, it ends with the rows of a study
// that was left alone; so does one whose engine ends with an error.
#include <sys/wait.h>

#include <algorithm>
#include <set>

#include "analyse/analysis.h"
#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "ops/backend.h"
#include "quantize/calibration.h"
#include "study/ahead.h"
#include "study/shuffled_endpoint.h"
#include "study_fixture.h"

namespace narrow {
namespace {

TEST_F(StudyTest, AKilledStudyEndsLikeOneLeftAlone) {
  const fs::path whole = root_ / "whole";
  ASSERT_EQ(run_in_child(whole, ""), 0);
  const auto expected = rows(whole);
  EXPECT_GE(expected.size(), 12u);
  int killed = 0;
  for (const char* fault : {"store.fsync:kill:1", "store.append:kill:7", "store.fsync:kill:6",
                            "ckpt.write:kill:9", "ckpt.rename:kill:1", "store.fsync:kill:12"}) {
    SCOPED_TRACE(fault);
    const fs::path directory = root_ / "killed";
    fs::remove_all(directory);
    killed += WIFSIGNALED(run_in_child(directory, fault));
    ASSERT_EQ(run_in_child(directory, ""), 0);
    EXPECT_EQ(rows(directory), expected);
  }
  EXPECT_GE(killed, 4);
}

// In a task, in answers, in a load and in the next format's engine. No row is of a request that
// failed.
TEST_F(StudyTest, AnEngineThatEndsLosesNoRows) {
  const fs::path whole = root_ / "whole";
  ASSERT_EQ(run_in_child(whole, ""), 0);
  const auto expected = rows(whole);
  std::set<std::string> unfinished;
  for (const int step : {1, 3, 10, 20, 40, 80}) {
    SCOPED_TRACE(step);
    const fs::path directory = root_ / ("ended" + std::to_string(step));
    const int status = run_in_child(directory, "engine.step:eio:" + std::to_string(step));
    EXPECT_EQ(WEXITSTATUS(status), 1);
    {
      const store::Store store(directory / "study.db");
      for (const store::Cell& cell : store.cells()) {
        if (!store.finished(cell)) unfinished.insert(cell.kind);
        for (const store::Row& row : store.rows(cell))
          EXPECT_NE(row.data.value("status", ""), "error") << to_line(row.data);
      }
    }
    ASSERT_EQ(run_in_child(directory, ""), 0);
    EXPECT_EQ(rows(directory), expected);
  }
  for (const char* kind : {"eval", "answers", "load"})
    EXPECT_TRUE(unfinished.contains(kind)) << kind;
}

// Else it would hold the corrected one off.
TEST_F(StudyTest, ARefusedPlanLeavesNoFolder) {
  const fs::path directory = root_ / "refused";
  plan_.tasks.back().name = "winograd";
  EXPECT_THROW(study::run(plan_, settings_, directory), Error);
  EXPECT_FALSE(fs::exists(directory));
}

TEST_F(StudyTest, AnEncoderAddsItsScores) {
  settings_.encoder =
      std::string(NARROW_SOURCE_DIR) + "/tests/goldens/similarity/encoders/tiny-bert";
  const fs::path directory = root_ / "encoder";
  ASSERT_EQ(run_in_child(directory, ""), 0);
  const auto scores = [&] {
    const store::Store store(directory / "study.db");
    std::vector<Json> found;
    for (const store::Cell& cell : store.cells())
      if (cell.kind == "similarity" && cell.name == "text" && cell.key.contains("encoder"))
        for (const store::Row& row : store.rows(cell)) found.push_back(row.data);
    return found;
  };
  ASSERT_EQ(scores().size(), 3u);
  for (const Json& row : scores()) {
    // A random encoder's cosines have no sign of their own, but alike texts are at 1.
    EXPECT_LE(row["sts"].get<double>(), 1 + 1e-6);
    EXPECT_LE(row["bertscore_f1"].get<double>(), 1 + 1e-6);
    const bool same = row["base_text"] == row["text"];
    EXPECT_EQ(same, row["sts"].get<double>() > 1 - 1e-6);
  }
  // Without it the texts are compared again, in a cell of their own.
  settings_.encoder.clear();
  ASSERT_EQ(run_in_child(directory, ""), 0);
  const store::Store store(directory / "study.db");
  int64_t cells = 0;
  for (const store::Cell& cell : store.cells())
    cells += cell.kind == "similarity" && cell.name == "text";
  EXPECT_EQ(cells, 2);
}

// As the answers and scores beside them.
TEST_F(StudyTest, DivergencesAreOfTheCacheThatAnswers) {
  plan_.tasks.resize(1);
  plan_.scenarios.clear();
  plan_.text_prompts = 0;
  settings_.backend = "reference";
  const auto divergences = [&](std::optional<DType> kv_dtype) {
    settings_.kv_dtype = kv_dtype;
    const fs::path directory = root_ / (kv_dtype ? "e4m3" : "own");
    EXPECT_EQ(run_in_child(directory, ""), 0);
    return rows(directory).at("similarity w8a8-fp kl/squad_passages");
  };
  EXPECT_NE(divergences({}), divergences(DType::f8_e4m3));
}

TEST_F(StudyTest, QuestionsInTheCalibrationTextAreCounted) {
  const auto model = checkpoint::open(plan_.model);
  const auto tokenizer = text::Tokenizer::from_json(model->documents().tokenizer, "");
  constexpr int64_t kLength = 256;
  const auto calibration = quantize::load_calibration("", tokenizer, 1, kLength);
  write_text(root_ / "data/asked.jsonl",
             to_line({{"q", tokenizer.decode(calibration.windows.at(0))}}) + "\n" +
                 to_line({{"q", "One day, Lily saw a bird."}}) + "\n");
  write_text(root_ / "asked.yaml",
             "name: asked\nversion: 1\nkind: choice\ndata: {test: [asked.jsonl]}\n"
             "question: '{{q}}'\nchoices: \"{{['a', 'b']}}\"\ngold: '0'\nmetrics: [acc]\n");
  plan_.formats = {"bf16", "w8a8-int"};
  plan_.calibration_samples = 1;
  plan_.calibration_length = kLength;
  plan_.tasks.resize(1);
  plan_.tasks[0].name = (root_ / "asked.yaml").string();
  ASSERT_EQ(run_in_child(root_ / "study", ""), 0);
  const store::Store store(root_ / "study/study.db");
  int64_t found = 0;
  for (const store::Cell& cell : store.cells()) {
    if (cell.kind != "quantize" || cell.format != "w8a8-int") continue;
    ++found;
    EXPECT_EQ(store.rows(cell).at(0).data["calibration_overlap"], (Json{{"asked", 1}}));
  }
  EXPECT_EQ(found, 1);
}

TEST_F(StudyTest, TasksOfErrorsAloneAreRefused) {
  write_text(root_ / "data/pages.jsonl", "{\"t\": \"One day\"}\n");
  write_text(root_ / "pages.yaml",
             "name: pages\nversion: 1\nkind: rolling\ndata: {test: [pages.jsonl]}\n"
             "answer: '{{t}}'\nmetrics: [bits_per_byte]\n");
  write_text(root_ / "words.yaml",
             "name: words\nversion: 1\nkind: generate\ndata: {test: [pages.jsonl]}\n"
             "question: '{{t}}'\nanswer: '{{t}}'\ngenerate: {max_tokens: 4}\n"
             "filters: {none: []}\nmetrics: ['ter,none']\n");
  plan_.tasks.resize(1);
  for (const char* name : {"pages.yaml", "words.yaml"}) {
    plan_.tasks[0].name = (root_ / name).string();
    try {
      study::run(plan_, settings_, root_ / "study" / name);
      FAIL() << name << " was studied";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("perplexities or errors"), std::string::npos)
          << error.what();
    }
  }
}

// Similarity comes last: what it needs is looked for first.
TEST_F(StudyTest, AMissingTextIsRefusedBeforeAnythingIsAsked) {
  for (const char* name : {"squad_passages.txt", "squad_prompts.jsonl"}) {
    const fs::path file = root_ / "data/text" / name;
    fs::rename(file, root_ / name);
    try {
      study::run(plan_, settings_, root_ / "study" / name);
      FAIL() << "studied without " << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_status(), 2);
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    }
    EXPECT_FALSE(fs::exists(root_ / "study" / name));
    fs::rename(root_ / name, file);
  }
}

// RULER's samples need the model's tokenizer, and its context.
TEST_F(StudyTest, RulerIsMadeForTheModel) {
  plan_.formats = {"bf16"};
  plan_.scenarios.clear();
  plan_.text_prompts = plan_.kl_windows = 0;
  plan_.tasks.resize(1);
  plan_.tasks[0] = {"ruler_4k_niah_single_1", 2, std::nullopt, std::nullopt};
  try {
    study::run(plan_, settings_, root_ / "short");
    FAIL() << "samples longer than the context were made";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("context is 512"), std::string::npos) << error.what();
  }
  fs::copy(plan_.model, root_ / "long");
  Json config = parse_json(read_text(root_ / "long/config.json"), "config.json");
  config["max_position_embeddings"] = 4096;
  write_text(root_ / "long/config.json", config.dump());
  plan_.model = (root_ / "long").string();
  study::run(plan_, settings_, root_ / "study");
  const store::Store store(root_ / "study/study.db");
  size_t answered = 0;
  for (const store::Cell& cell : store.cells())
    if (cell.kind == "eval" && cell.name == "ruler_4k_niah_single_1")
      answered += store.rows(cell).size();
  EXPECT_EQ(answered, 2u);
}

// Not "auto", which is another machine's word for another backend.
TEST_F(StudyTest, CellsNameTheBackendThatAnswered) {
  settings_.backend = "auto";
  study::run(plan_, settings_, root_ / "study");
  const auto ids = [&] {
    std::vector<std::string> result;
    for (const store::Cell& cell : store::Store(root_ / "study/study.db").cells())
      result.push_back(cell.id());
    return result;
  };
  const auto before = ids();
  settings_.backend = ops::make_backend("auto", 1)->name();
  study::run(plan_, settings_, root_ / "study");
  EXPECT_EQ(ids(), before);
}

TEST_F(StudyTest, AnotherPlanIsRefusedInTheSameFolder) {
  ASSERT_EQ(run_in_child(root_ / "study", ""), 0);
  plan_.tasks.pop_back();
  EXPECT_THROW(study::run(plan_, settings_, root_ / "study"), Error);
}

// The A/A run: another order, other batches, the same bytes. A byte that differs would be counted.
TEST_F(StudyTest, TheBaselineRepeatsItself) {
  const fs::path directory = root_ / "study";
  ASSERT_EQ(run_in_child(directory, ""), 0);
  const analyse::StudyRows rows = analyse::load_study(store::Store(directory / "study.db"));
  const analyse::Analysis analysis = analyse::analyse(rows);
  EXPECT_EQ(analysis.noise.failure, "");
  EXPECT_EQ(analysis.noise.rows, 4 + 4 + 3);
  EXPECT_EQ(analysis.noise.differing, 0);
  // The rows carry what a reader needs: prompts and what both formats made of the choices.
  ASSERT_EQ(analysis.samples.list.size(), 8u);
  for (const analyse::Sample& sample : analysis.samples.list) {
    EXPECT_FALSE(sample.contexts.empty() || sample.contexts[0].empty());
    EXPECT_EQ(sample.choices.size(), sample.loglikelihoods.size());
    EXPECT_EQ(sample.loglikelihoods.size(), sample.loglikelihoods_base.size());
  }
}

TEST(Plan, FixesTheMarginOfLossless) {
  const auto parsed = [](const std::string& line) {
    return study::parse_plan(parse_yaml("name: test\nformats: [bf16]\n" + line, "plan"), "plan");
  };
  EXPECT_EQ(parsed("").to_json()["lossless_margin_percent"], 1.0);
  EXPECT_EQ(parsed("lossless_margin_percent: 0.5").lossless_margin_percent, 0.5);
  for (const char* wrong : {"0", "-1", "101", ".nan", "x"})
    EXPECT_THROW(parsed(std::string("lossless_margin_percent: ") + wrong), Error) << wrong;
}

TEST(Plan, TakesTheChatTemplateTaskByTask) {
  const study::Plan plan =
      study::parse_plan(parse_yaml("name: test\nformats: [bf16]\nchat_template: true\n"
                                   "tasks: [{name: mmlu}, {name: gsm8k, chat_template: false}]",
                                   "plan"),
                        "plan");
  EXPECT_FALSE(plan.tasks[0].chat_template);
  EXPECT_EQ(plan.tasks[1].chat_template, false);
  EXPECT_EQ(plan.to_json()["tasks"][1]["chat_template"], false);
  EXPECT_THROW(study::parse_plan(parse_yaml("name: test\nformats: [bf16]\n"
                                            "tasks: [{name: mmlu, chat_template: 1}]",
                                            "plan"),
                                 "plan"),
               Error);
}

TEST(Ahead, RunsInOrderAndHandsOnWhatAStepThrows) {
  std::vector<int> ran;
  {
    study::Ahead ahead({[&] { ran.push_back(0); }, [&] { ran.push_back(1); },
                        [] { throw std::runtime_error("no"); }, [&] { ran.push_back(3); }},
                       /*jobs=*/1);
    ahead.wait(0);
    ahead.wait(1);
    EXPECT_THROW(ahead.wait(2), std::runtime_error);
  }
  EXPECT_EQ(ran, (std::vector{0, 1}));
}

// Answers with the request's id; remembers the order in which requests came.
class Echo : public endpoint::Endpoint {
 public:
  const endpoint::Info& info() const override { return info_; }
  const text::Tokenizer& tokenizer() const override { throw std::logic_error("not asked for"); }
  const text::ChatTemplate* chat_template() const override { return nullptr; }
  std::future<endpoint::GenerateResult> generate(endpoint::GenerateRequest request,
                                                 endpoint::TokenSink) override {
    order.push_back(request.id);
    std::promise<endpoint::GenerateResult> promise;
    if (request.id == "fails") {
      promise.set_exception(std::make_exception_ptr(std::runtime_error("no")));
    } else {
      endpoint::GenerateResult result;
      result.id = request.id;
      promise.set_value(std::move(result));
    }
    return promise.get_future();
  }
  std::future<endpoint::ScoreResult> score(endpoint::ScoreRequest request) override {
    order.push_back(request.id);
    std::promise<endpoint::ScoreResult> promise;
    endpoint::ScoreResult result;
    result.id = request.id;
    promise.set_value(std::move(result));
    return promise.get_future();
  }

  std::vector<std::string> order;

 private:
  endpoint::Info info_;
};

TEST(ShuffledEndpoint, AsksInAnotherOrderAndAnswersEachItsOwn) {
  Echo echo;
  std::vector<std::string> sent;
  {
    study::ShuffledEndpoint shuffled(echo, 1);
    std::vector<std::future<endpoint::ScoreResult>> scores;
    std::vector<std::future<endpoint::GenerateResult>> generations;
    for (int i = 0; i < 64; ++i) {
      sent.push_back((i % 2 == 0 ? "s" : "g") + std::to_string(i));
      if (i % 2 == 0)
        scores.push_back(shuffled.score({sent.back(), {}, {1}}));
      else
        generations.push_back(shuffled.generate({sent.back(), {1}, {}}));
    }
    for (size_t i = 0; i < scores.size(); ++i) EXPECT_EQ(scores[i].get().id, sent[2 * i]);
    for (size_t i = 0; i < generations.size(); ++i)
      EXPECT_EQ(generations[i].get().id, sent[2 * i + 1]);
    EXPECT_THROW(shuffled.generate({"fails", {1}, {}}).get(), std::runtime_error);
    sent.push_back("fails");
    // Left without waiting: the destructor does.
    shuffled.score({"last", {}, {1}});
    sent.push_back("last");
  }
  EXPECT_NE(echo.order, sent);
  std::sort(echo.order.begin(), echo.order.end());
  std::sort(sent.begin(), sent.end());
  EXPECT_EQ(echo.order, sent);
}

TEST_F(StudyTest, AFullDiskIsAnErrorAndLosesNothing) {
  const fs::path directory = root_ / "full";
  EXPECT_EQ(WEXITSTATUS(run_in_child(directory, "ckpt.write:enospc:5")), 1);
  EXPECT_FALSE(fs::exists(directory / "checkpoints/w8a8-fp"));
  ASSERT_EQ(run_in_child(directory, ""), 0);
}

}  // namespace
}  // namespace narrow
