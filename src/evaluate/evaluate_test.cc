#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "evaluate/documents.h"
#include "evaluate/filter.h"
#include "evaluate/harness_task.h"
#include "evaluate/judge.h"
#include "evaluate/python_literal.h"
#include "evaluate/python_random.h"
#include "evaluate/results.h"
#include "evaluate/task.h"

namespace narrow::evaluate {
namespace {

// python3 -c "import random; r = random.Random(1234); print(r.random(), r.sample(range(10), 5),
// r.sample(range(5000), 4), r.getrandbits(7))"
TEST(PythonRandom, EqualsCPython) {
  PythonRandom random(1234);
  EXPECT_DOUBLE_EQ(random.random(), 0.9664535356921388);
  PythonRandom fresh(1234);
  EXPECT_EQ(fresh.sample(10, 5), (std::vector<int64_t>{7, 1, 0, 9, 4}));
  EXPECT_EQ(fresh.sample(10, 5), (std::vector<int64_t>{0, 1, 8, 6, 2}));
  EXPECT_EQ(fresh.sample(10, 5), (std::vector<int64_t>{3, 0, 8, 6, 7}));
}

// python3 -c "import random; r = random.Random(0); x = list('abcd'); r.shuffle(x); print(x);
// r.shuffle(x); print(x)"
TEST(PythonRandom, ShufflesAsCPython) {
  PythonRandom random(0);
  std::vector<std::string> letters{"a", "b", "c", "d"};
  random.shuffle(letters);
  EXPECT_EQ(letters, (std::vector<std::string>{"c", "a", "b", "d"}));
  random.shuffle(letters);
  EXPECT_EQ(letters, (std::vector<std::string>{"c", "a", "d", "b"}));
}

TEST(PythonLiteral, ReadsWhatPythonWrites) {
  const auto parse = [](const char* text) { return parse_python_literal(text, "test"); };
  EXPECT_EQ(parse(R"(['Ana', "Mackenzie's", 'a\'b\n\\', 'caf\xe9 \u2013'])"),
            (Json{"Ana", "Mackenzie's", "a'b\n\\", "caf\u00e9 \u2013"}));
  EXPECT_EQ(parse("(1, -2.5, None, [True, False,], ())"),
            (Json{1, -2.5, nullptr, {true, false}, Json::array()}));
  EXPECT_EQ(parse(" ('x') "), Json("x"));
  for (const std::string bad :
       {"", "[", "['a'", "['a' 'b']", "'a", "'a\\", "'\\x4'", "'\\U00110000'", "[1]]", "name", "1e",
        "__import__('os')", "'a\nb'"})
    EXPECT_THROW(parse_python_literal(bad, "test"), Error) << bad;
  EXPECT_THROW(parse_python_literal(std::string(100, '['), "test"), Error);
}

TEST(Filter, ExtractsLikeTheHarness) {
  const Pattern strict("#### (\\-?[0-9\\.\\,]+)");
  const Pattern flexible("(-?[$0-9.,]{2,})|(-?[0-9]+)");
  EXPECT_EQ(extract(strict, 0, "so it is\n#### 1,234 and #### 5"), "1,234");
  EXPECT_EQ(extract(strict, 0, "no answer"), kNoAnswer);
  EXPECT_EQ(extract(flexible, -1, "he has 12 and then $30.50"), "$30.50");
  EXPECT_EQ(extract(flexible, -1, "only 7"), "7");
}

TEST(ExactMatch, IgnoresWhatTheTaskSays) {
  ExactMatch match;
  match.ignore_case = true;
  for (const char* pattern : {",", "\\$", "(?s).*#### ", "\\.$"})
    match.ignore.emplace_back(pattern);
  EXPECT_TRUE(match.matches("$1,234.", "Some reasoning\nover lines\n#### 1234"));
  EXPECT_FALSE(match.matches("1235", "#### 1234"));
}

TEST(Task, BadFilesAreRefusedByName) {
  const TemporaryDirectory folder;
  for (const char* text :
       {"name: x\nversion: 1\nkind: choice\nquestion: q\nmetrics: [acc]\ndata: {test: [a]}\nodd: "
        "1\n",
        "name: x\nversion: 1\nkind: guess\nquestion: q\nmetrics: [acc]\ndata: {test: [a]}\n",
        "name: x\nversion: 1\nkind: choice\nmetrics: [acc]\ndata: {test: [a]}\n",
        "name: x\nversion: 1\nkind: choice\nquestion: '{{'\nmetrics: [acc]\ndata: {test: [a]}\n",
        "- a\n- b\n", "name: [", "name: x\nname: y\n"}) {
    EXPECT_THROW(load_task(folder.file("bad.yaml", text).string()), Error) << text;
  }
  EXPECT_THROW(load_task("no_such_task"), Error);
}

// A task in a folder of its own, to change one thing at a time.
class OwnTask : public testing::Test {
 protected:
  void SetUp() override {
    write_text(root_ / "rows.jsonl", "{\"q\": \"one\"}\n{\"q\": \"two\"}\n");
    write(yaml_);
  }
  void write(const std::string& yaml) { write_text(root_ / "own.yaml", yaml); }
  Task load() const { return load_task((root_ / "own.yaml").string(), root_); }

  const TemporaryDirectory temporary_;
  const std::filesystem::path root_ = temporary_.path();
  std::string yaml_ =
      "name: own\nversion: 1.0\nkind: choice\ndata: {test: [rows.jsonl]}\nquestion: '{{q}}'\n"
      "choices: \"{{['a', 'b', 'c', 'd']}}\"\ngold: b\nmetrics: [acc]\nnormalized: [acc]\n"
      "guess_among: 4\nexamples: [{q: zero}, {q: nought}]\n";
};

TEST_F(OwnTask, KeyChangesWithWhatChangesAnAnswer) {
  std::vector<std::string> keys{task_key(load(), {}).dump()};
  const auto expect_new = [&](const std::string& what, const std::string& key) {
    EXPECT_EQ(std::count(keys.begin(), keys.end(), key), 0) << what;
    keys.push_back(key);
  };
  EXPECT_EQ(task_key(load(), {}).dump(), keys[0]);
  RunOptions options;
  options.prompt.shots = 1;
  expect_new("shots", task_key(load(), options).dump());
  options.prompt.chat = true;
  expect_new("chat template", task_key(load(), options).dump());
  options.prompt.multiturn = false;
  expect_new("turns", task_key(load(), options).dump());
  options.limit = 1;
  expect_new("limit", task_key(load(), options).dump());
  write(yaml_ + "description: 'Now: '\n");
  expect_new("task file", task_key(load(), {}).dump());
  write(yaml_);
  write_text(root_ / "rows.jsonl", "{\"q\": \"one\"}\n{\"q\": \"three\"}\n");
  expect_new("data", task_key(load(), {}).dump());
}

TEST_F(OwnTask, NormalizedScoreLiesBetweenGuessingAndAllRight) {
  const Task task = load();
  const auto score = [&](std::vector<double> values) {
    std::vector<Json> rows;
    for (const double value : values)
      rows.push_back({{"subtask", "own"}, {"metrics", {{"acc", value}}}});
    return normalized_score(task, rows, "own").value();
  };
  EXPECT_DOUBLE_EQ(score({1, 1}), 100);
  EXPECT_DOUBLE_EQ(score({1, 0}), 100 * (0.5 - 0.25) / 0.75);
  EXPECT_DOUBLE_EQ(score({1, 0, 0, 0}), 0);
  EXPECT_DOUBLE_EQ(score({0, 0}), 0);
}

TEST_F(OwnTask, SubtasksThatDifferInTheirAnswersAreNormalizedOneByOne) {
  write(yaml_ + "subtasks: [{name: two, guess_among: 2}, {name: five, guess_among: 5}]\n");
  const Task task = load();
  std::vector<Json> rows;
  for (const double value : {1, 0, 1, 1})  // 0.75 → 50
    rows.push_back({{"subtask", "own_two"}, {"metrics", {{"acc", value}}}});
  for (const double value : {1, 0})  // 0.5 → 37.5
    rows.push_back({{"subtask", "own_five"}, {"metrics", {{"acc", value}}}});
  EXPECT_DOUBLE_EQ(normalized_score(task, rows, "own").value(), (50 + 37.5) / 2);
}

// IFEval's instruction level: over all instructions, not over prompts.
TEST_F(OwnTask, WeightsOfRowsCountInTheMean) {
  const Task task = load();
  const std::vector<Json> rows{
      {{"subtask", "own"}, {"metrics", {{"acc", 1.0}}}},
      {{"subtask", "own"}, {"metrics", {{"acc", 0.5}}}, {"weights", {{"acc", 2}}}}};
  const Score score = summarize(task, rows, "own").at(0);
  EXPECT_DOUBLE_EQ(score.mean, 2.0 / 3);
  EXPECT_FALSE(score.standard_error);
}

TEST_F(OwnTask, FieldsOutOfBoundsAreRefused) {
  const std::string generate =
      "name: x\nversion: 1\nkind: generate\ndata: {test: [rows.jsonl]}\nquestion: q\nanswer: a\n";
  for (const std::string& text :
       {yaml_ + "preprocess: odd\n", yaml_ + "subtasks: {a: b}\n", yaml_ + "subtasks: [1]\n",
        yaml_ + "subtasks: [{name: a, guess_among: -1}]\n",
        yaml_ + "subtasks: [{name: a, examples: [1]}]\n",
        generate + "generate: {max_tokens: 1, samples: 2}\nmetrics: [ifeval]\n",
        generate + "generate: {max_tokens: 1, top_p: 2}\nmetrics: [ifeval]\n",
        generate + "generate: {max_tokens: 1}\nmetrics: [odd]\n",
        generate + "generate: {max_tokens: 1}\nmetrics: [ifeval]\nnormalized: [acc]\n",
        generate + "generate: {max_tokens: 1}\nmetrics: [ifeval]\nversion: new\n"}) {
    write(text);
    EXPECT_THROW(load(), Error) << text;
  }
}

// The harness's own files give the prompts, answers and metrics of ours.
TEST(HarnessTask, EqualsTheTaskOfItsName) {
  const std::string goldens = std::string(NARROW_SOURCE_DIR) + "/tests/goldens/";
  const auto files = tasks_below(goldens + "tasks/harness");
  EXPECT_EQ(files.size(), 5u);
  for (const auto& [name, shots] : {std::pair{"arc_challenge", 5}, std::pair{"gsm8k", 2}}) {
    SCOPED_TRACE(name);
    const std::string data = goldens + "evaluation/data";
    const Task theirs = load_task(files.find(name)->second.string(), data);
    const Task ours = load_task(name, data);
    EXPECT_EQ(theirs.name, ours.name);
    EXPECT_EQ(theirs.metrics, ours.metrics);
    EXPECT_EQ(theirs.version, Json(name == std::string("gsm8k") ? 3.0 : 1.0));
    EXPECT_EQ(theirs.stop, ours.stop);
    EXPECT_EQ(theirs.max_tokens, ours.max_tokens);
    Prompter left(theirs, theirs.subtasks[0], {shots}, nullptr);
    Prompter right(ours, ours.subtasks[0], {shots}, nullptr);
    for (size_t i = 0; i < ours.subtasks[0].test.size(); ++i) {
      const Prompt a = left.next(), b = right.next();
      EXPECT_EQ(a.contexts, b.contexts);
      EXPECT_EQ(a.continuations, b.continuations);
      EXPECT_EQ(a.gold, b.gold);
      EXPECT_EQ(a.target, b.target);
    }
    for (size_t f = 0; f < ours.filters.size(); ++f)
      for (const char* response : {"so 3 + 4 = 7\n#### 7", "about $12.50 or 13", "none"})
        EXPECT_EQ(theirs.filters[f].answer(response, {}), ours.filters[f].answer(response, {}));
  }
}

// A folder with the rows of a task, by its name.
class TaskFolder {
 public:
  TaskFolder(const std::string& name, const std::vector<Json>& rows) {
    std::filesystem::create_directory(path() / name);
    std::string lines;
    for (const Json& row : rows) lines += to_line(row) + "\n";
    write_text(path() / name / "test.jsonl", lines);
  }
  const std::filesystem::path& path() const { return temporary_.path(); }

 private:
  const TemporaryDirectory temporary_;
};

Json corpus_golden() {
  return parse_json(
      read_text_maybe_gz(std::string(NARROW_SOURCE_DIR) + "/tests/goldens/tasks/corpus.json.gz"),
      "corpus.json");
}

TEST(HarnessTask, TextsAreScoredTogether) {
  const Json golden = corpus_golden()["texts"]["mixed"];
  std::vector<Json> documents;
  for (const Json& item : golden["items"]) documents.push_back({{"q", "?"}, {"a", item[0]}});
  const TaskFolder data("t", documents);
  const auto& folder = data.path();
  write_text(
      folder / "t.yaml",
      "task: t\ndataset_path: x/y\ntest_split: test\ndoc_to_text: q\ndoc_to_target: '{{a}}'\n"
      "generation_kwargs: {do_sample: true, temperature: 0.8, top_p: 0.95}\n"
      "metric_list: [{metric: bleu, aggregation: bleu}, {metric: chrf}, {metric: ter}]\n");
  const Task task = load_task((folder / "t.yaml").string(), folder);
  EXPECT_EQ(task.temperature, 0.8);
  EXPECT_EQ(task.top_p, 0.95);
  Prompter prompter(task, task.subtasks[0], {}, nullptr);
  std::vector<Json> rows;
  for (size_t i = 0; i < documents.size(); ++i) {
    rows.push_back({{"doc_id", i}, {"subtask", "t"}, {"response", golden["items"][i][1]}});
    judge(task, documents[i], prompter.next(), rows.back());
    for (const char* metric : {"bleu", "chrf", "ter"})
      EXPECT_NEAR(rows.back()["metrics"][std::string(metric) + ",none"].get<double>(),
                  golden[metric]["each"][i].get<double>(), 1e-9);
  }
  for (const Score& score : summarize(task, rows, "t")) {
    const Json& expected = golden[score.metric.substr(0, score.metric.find(','))];
    EXPECT_NEAR(score.mean, expected["score"].get<double>(), 1e-9);
    EXPECT_NEAR(*score.standard_error, expected["stderr"].get<double>(), 1e-9);
  }
  EXPECT_NEAR(headline({&task, {}, "", rows}), golden["bleu"]["score"].get<double>(), 1e-9);
  EXPECT_EQ(results_document({{&task, {}, "", rows}})["higher_is_better"]["t"],
            (Json{{"bleu", true}, {"chrf", true}, {"ter", false}}));
}

TEST(HarnessTask, OneContinuationIsScoredAsTheHarness) {
  const Json golden = corpus_golden()["continuation"];
  const auto documents = golden["rows"].get<std::vector<Json>>();
  const TaskFolder data("lambada_openai", documents);
  const Task task =
      load_task(std::string(NARROW_SOURCE_DIR) + "/tests/goldens/tasks/harness/lambada_openai.yaml",
                data.path());
  EXPECT_EQ(task.metrics, (std::vector<std::string>{"perplexity", "acc"}));
  std::optional<Prompter> prompter;
  for (size_t i = 0; i < golden["prompts"].size(); ++i) {
    const Json& row = golden["prompts"][i];
    if (i % documents.size() == 0)
      prompter.emplace(task, task.subtasks[0], PromptOptions{row[0].get<int64_t>()}, nullptr);
    const Prompt prompt = prompter->next();
    EXPECT_EQ(prompt.contexts, std::vector{row[1].get<std::string>()});
    EXPECT_EQ(prompt.continuations, std::vector{row[2].get<std::string>()});
  }
  prompter.emplace(task, task.subtasks[0], PromptOptions{}, nullptr);
  std::vector<Json> rows;
  for (size_t i = 0; i < documents.size(); ++i) {
    rows.push_back({{"doc_id", i},
                    {"subtask", "lambada_openai"},
                    {"loglikelihoods", {golden["results"][i][0]}},
                    {"is_greedy", {golden["results"][i][1]}}});
    judge(task, documents[i], prompter->next(), rows.back());
  }
  const Json better =
      results_document({{&task, {}, "", rows}})["higher_is_better"]["lambada_openai"];
  EXPECT_EQ(better, (Json{{"perplexity", false}, {"acc", true}}));
  for (const Score& score : summarize(task, rows, "lambada_openai"))
    EXPECT_NEAR(score.mean, golden[score.metric == "acc,none" ? "acc" : "perplexity"].get<double>(),
                1e-9);
}

// Prompts and scores by the harness's own code of a task whose answers are generated; examples come
// from the documents.
void compare_generated(const Json& golden, const std::string& name, const std::string& metric) {
  const auto documents = golden["rows"].get<std::vector<Json>>();
  const TaskFolder data(name, documents);
  const auto& folder = data.path();
  for (const char* split : {"train.jsonl", "validation.jsonl"})
    std::filesystem::copy_file(folder / name / "test.jsonl", folder / name / split,
                               std::filesystem::copy_options::overwrite_existing);
  write_text(folder / "t.yaml", golden["yaml"].get<std::string>());
  const Task task = load_task((folder / "t.yaml").string(), folder);
  std::optional<Prompter> prompter;
  for (size_t i = 0; i < golden["prompts"].size(); ++i) {
    const Json& row = golden["prompts"][i];
    if (i % documents.size() == 0)
      prompter.emplace(task, task.subtasks[0], PromptOptions{row[0].get<int64_t>()}, nullptr);
    EXPECT_EQ(prompter->next().contexts, std::vector{row[1].get<std::string>()});
  }
  prompter.emplace(task, task.subtasks[0], PromptOptions{0}, nullptr);
  const size_t each = golden["scores"].size() / documents.size();
  for (size_t i = 0; i < documents.size(); ++i) {
    const Prompt prompt = prompter->next();
    for (size_t j = 0; j < each; ++j) {
      const Json& expected = golden["scores"][i * each + j];
      Json row{{"doc_id", i}, {"subtask", task.name}, {"response", expected[0]}};
      judge(task, documents[i], prompt, row);
      EXPECT_EQ(row["metrics"][metric].get<double>(), expected[1].get<double>())
          << prompt.target << " " << expected;
    }
  }
}

TEST(HarnessTask, GeneratedAnswersMayBeChoices) {
  compare_generated(corpus_golden()["choice_answers"], "boolq-seq2seq", "exact_match,none");
}

TEST(HarnessTask, OfSeveralRightAnswersAnyCounts) {
  compare_generated(parse_json(read_text_maybe_gz(NARROW_SOURCE_DIR
                                                  "/tests/goldens/tasks/several_answers.json.gz"),
                               "several_answers.json"),
                    "nq_open", "exact_match,remove_whitespace");
  // One document's list must not turn out a text at another's turn, nor be of numbers.
  const std::string yaml =
      "task: odd\ndataset_path: x/y\ntest_split: test\noutput_type: generate_until\n"
      "doc_to_text: q\ndoc_to_target: a\n";
  for (const Json& second : {Json("text"), Json({1, 2}), Json::array()}) {
    const TaskFolder data("odd", {{{"q", "One"}, {"a", {"b"}}}, {{"q", "Two"}, {"a", second}}});
    const auto& folder = data.path();
    write_text(folder / "t.yaml", yaml);
    const Task task = load_task((folder / "t.yaml").string(), folder);
    Prompter prompter(task, task.subtasks[0], {}, nullptr);
    EXPECT_EQ(prompter.next().targets, std::vector<std::string>{"b"});
    EXPECT_THROW(prompter.next(), Error) << second;
  }
  const TaskFolder data("odd", {{{"q", "One"}, {"a", {"b"}}}});
  const auto& folder = data.path();
  write_text(folder / "t.yaml", yaml + "metric_list: [{metric: bleu}]\n");
  EXPECT_THROW(load_task((folder / "t.yaml").string(), folder), Error);
}

// Answers of 64 responses by the harness's own filters (tests/goldens/tasks/make_votes.py), and the
// score of each filter's one.
TEST(HarnessTask, ResponsesVote) {
  const Json golden = parse_json(
      read_text_maybe_gz(NARROW_SOURCE_DIR "/tests/goldens/tasks/votes.json.gz"), "votes.json");
  const TaskFolder data("vote", {{{"q", "How many?"}, {"a", "7"}}});
  const auto& folder = data.path();
  const Json regex{{"function", "regex"}, {"regex_pattern", golden["pattern"]}};
  const Json first{{"function", "take_first"}}, vote{{"function", "majority_vote"}};
  Json file{{"task", "vote"},
            {"dataset_path", "x/y"},
            {"test_split", "test"},
            {"doc_to_text", "{{q}}"},
            {"doc_to_target", "{{a}}"},
            {"output_type", "generate_until"},
            {"generation_kwargs", {{"do_sample", true}, {"temperature", 0.2}}},
            {"repeats", 64},
            {"metric_list", {{{"metric", "exact_match"}}}},
            {"filter_list",
             {{{"name", "score-first"}, {"filter", {regex, first}}},
              {{"name", "maj@64"}, {"filter", {regex, vote, first}}},
              {{"name", "maj@8"},
               {"filter", {{{"function", "take_first_k"}, {"k", 8}}, regex, vote, first}}}}}};
  const auto load = [&] {
    write_text(folder / "t.yaml", file.dump());  // JSON is YAML
    return load_task((folder / "t.yaml").string(), folder);
  };
  const Task task = load();
  EXPECT_EQ(task.samples, 64);
  Prompter prompter(task, task.subtasks[0], {}, nullptr);
  const Prompt prompt = prompter.next();
  std::map<std::string, int> right;
  for (const Json& document : golden["documents"]) {
    Json row{{"doc_id", 0}, {"subtask", task.name}, {"responses", document["responses"]}};
    judge(task, task.subtasks[0].test[0], prompt, row);
    EXPECT_EQ(row["answer"], document["answers"]);
    for (const auto& [filter, answer] : document["answers"].items()) {
      const auto score = row["metrics"]["exact_match," + filter].get<double>();
      EXPECT_EQ(score, answer == "7" ? 1 : 0) << filter << " " << answer;
      right[filter] += answer == "7";
    }
  }
  for (const char* filter : {"score-first", "maj@64", "maj@8"})
    EXPECT_GT(right[filter], 3) << filter;

  // Greedy responses are all alike; without a vote only the first one is looked at.
  file["generation_kwargs"] = Json::object();
  EXPECT_EQ(load().samples, 1);
  file["generation_kwargs"] = {{"do_sample", true}, {"temperature", 0.2}};
  file["filter_list"] = {{{"name", "score-first"}, {"filter", {regex, first}}}};
  EXPECT_EQ(load().samples, 1);
  for (const Json& steps : {Json{first, vote}, Json{vote, regex},
                            Json{{{"function", "take_first_k"}, {"k", 65}}, vote}}) {
    file["filter_list"] = {{{"name", "odd"}, {"filter", steps}}};
    EXPECT_THROW(load(), Error) << steps;
  }
}

// python3 -c "import yaml; print(yaml.safe_load(TEXT)['doc_to_text'])"
TEST(HarnessTask, OfTwoKeysTheLastCounts) {
  const TaskFolder data("twice", {{{"q", "One"}, {"a", "b"}}});
  const auto& folder = data.path();
  write_text(folder / "base.yaml",
             "dataset_path: x/y\ntest_split: test\ndoc_to_target: a\ndoc_to_text: '{{q}}?'\n"
             "doc_to_text: '{{q}}!'\n");
  write_text(folder / "t.yaml", "task: first\ninclude: base.yaml\ntask: twice\n");
  const Task task = load_task((folder / "t.yaml").string(), folder);
  EXPECT_EQ(task.name, "twice");
  Prompter prompter(task, task.subtasks[0], {}, nullptr);
  EXPECT_EQ(prompter.next().contexts[0], "One!");
  // A file of our own says each thing once.
  write_text(folder / "t.yaml", "name: t\nversion: 1\nversion: 2\n");
  EXPECT_THROW(load_task((folder / "t.yaml").string(), folder), Error);
}

TEST(HarnessTask, WhatIsNotCarriedOverIsRefusedByItsLine) {
  const TemporaryDirectory temporary;
  const auto& folder = temporary.path();
  const std::string begin =
      "task: t\ndataset_path: x/y\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\n";
  const auto refusal = [&](const std::string& text) -> std::string {
    write_text(folder / "t.yaml", text);
    try {
      translate_harness_task(folder / "t.yaml");
    } catch (const Error& error) {
      return error.what();
    }
    return "not refused";
  };
  EXPECT_EQ(refusal(begin), "not refused");
  const std::string here = (folder / "t.yaml").string();
  for (const auto& [line, named] : std::vector<std::pair<std::string, std::string>>{
           {"process_docs: !function utils.process_docs\n", "utils.process_docs"},
           {"metric_list:\n  - metric: !function utils.f\n", "utils.f"},
           {"class: !function task.Squad\n", "task.Squad"},
           {"class: Squad\n", "class"},
           {"output_type: odd\n", "odd"},
           {"metric_list: [{metric: chrf++}]\n", "chrf++"},
           {"metric_list: [{metric: f1, hf_evaluate: true}]\n", "f1"},
           {"metric_list: [{metric: exact_match, ignore_numbers: true}]\n", "ignore_numbers"},
           {"filter_list: [{name: f, filter: [{function: map}]}]\n", "map"},
           {"generation_kwargs: {temperature: 0.7}\n", "temperature"},
           {"generation_kwargs: {num_beams: 10}\n", "num_beams"},
           {"fewshot_config: {doc_to_text: x}\n", "doc_to_text"},
           {"doc_to_image: picture\n", "doc_to_image"},
           {"group: g\n", "group"}}) {
    const std::string message = refusal(begin + line);
    EXPECT_NE(message.find(named), std::string::npos) << message;
    const bool nested = line.find("  - ") != std::string::npos;
    EXPECT_NE(message.find(here + (nested ? ":7" : ":6")), std::string::npos) << message;
  }
  for (const char* text : {"task: t\ninclude: t.yaml\n", "task: t\ninclude: /no/such\n",
                           "task: t\n", "task: [a]\n", "task: t\nmetric_list: x\n"})
    EXPECT_NE(refusal(text), "not refused") << text;
}

class DocumentsTest : public testing::Test {
 protected:
  std::vector<Json> read(const std::string& name, const std::string& text) const {
    write_text(root_ / name, text);
    return read_documents(root_ / name);
  }
  const TemporaryDirectory temporary_;
  const std::filesystem::path root_ = temporary_.path();
};

TEST_F(DocumentsTest, EveryFormGivesItsRows) {
  EXPECT_EQ(read("a.jsonl", "{\"a\": 1}\n\n{\"a\": 2}\n").size(), 2u);
  EXPECT_EQ(read("a.json", "[{\"a\": 1}]").at(0), (Json{{"a", 1}}));
  EXPECT_EQ(read("b.json", "{\"canary\": \"x\", \"examples\": [{\"a\": 1}]}").at(0),
            (Json{{"a", 1}}));
  EXPECT_EQ(read("a.csv", "Question,Right\n\"one, \"\"two\"\"\nthree\",4\n").at(0),
            (Json{{"Question", "one, \"two\"\nthree"}, {"Right", "4"}}));
  EXPECT_EQ(read("b.csv", "q,1,2,3,4,C\n").at(0)["answer"], 2);
}

TEST_F(DocumentsTest, BrokenFilesAreRefused) {
  for (const auto& [name, text] :
       std::vector<std::pair<std::string, std::string>>{{"a.jsonl", "[1]\n"},
                                                        {"a.jsonl", "{\"a\": \n"},
                                                        {"a.json", "[1]"},
                                                        {"a.json", "{}"},
                                                        {"a.json", "{\"examples\": 3}"},
                                                        {"a.json", "["},
                                                        {"a.csv", "a,b\n1\n"},
                                                        {"a.csv", "q,1,2,3,4,C\nq,1,2,3,4,E\n"}})
    EXPECT_THROW(read(name, text), Error) << text;
  EXPECT_THROW(read_documents(root_ / "none.jsonl"), Error);
}

TEST(Prepare, RowsThatDoNotFitAreRefused) {
  PythonRandom random(0);
  for (const auto& [name, row] : std::vector<std::pair<std::string, const char*>>{
           {"hellaswag", R"({"endings": ["a"], "label": "1", "activity_label": "", "ctx_a": "",
                             "ctx_b": ""})"},
           {"hellaswag", "{}"},
           {"gpqa", R"({"Correct Answer": 1})"},
           {"gpqa_lighteval", R"({"Correct Answer": 1})"},
           {"musr", R"({"choices": "['a'"})"},
           {"truthfulqa", R"({"mc1_targets": {}})"},
           {"arc_letters", R"({"question": "", "choices": {"label": ["A", "B", "C", "D"]},
                               "answerKey": "E"})"},
           {"arc_letters", R"({"choices": 1})"},
           {"math_level_5", R"({"level": "Level 5"})"},
           {"aime", R"({"Problem": "p"})"}})
    EXPECT_THROW(prepare(name, {parse_json(row, "test")}, "test", random), Error) << name << row;
}

// The boxed answer as the harness's remove_boxed(last_boxed_only_string(…)) takes it.
TEST(Prepare, MathKeepsLevelFiveWithItsAnswer) {
  PythonRandom random(0);
  const auto answer = [&](const std::string& solution) {
    const auto documents =
        prepare("math_level_5",
                {{{"problem", "p"}, {"level", "Level 4"}, {"solution", solution}},
                 {{"problem", "p"}, {"level", "Level 5"}, {"solution", solution}}},
                "test", random);
    EXPECT_EQ(documents.size(), 1u);
    return documents.at(0)["answer"].get<std::string>();
  };
  EXPECT_EQ(answer("$\\boxed{1}$ and $\\boxed{\\frac{1}{2}}$."), "\\frac{1}{2}");
  EXPECT_EQ(answer("so $\\boxed 7$."), "7");
  EXPECT_EQ(answer("$\\fbox{3}$"), "[invalidanswer]");
  EXPECT_EQ(answer("$\\boxed{3$"), "[invalidanswer]");
  EXPECT_EQ(answer("none"), "[invalidanswer]");
}

}  // namespace
}  // namespace narrow::evaluate
