#include "evaluate/ruler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/temporary_directory.h"
#include "evaluate/prompt.h"
#include "evaluate/ruler_make.h"
#include "evaluate/ruler_task.h"

namespace narrow::evaluate {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(NARROW_SOURCE_DIR) / "tests/goldens/ruler";

int64_t quarter_bytes(const std::string& text) { return static_cast<int64_t>(text.size() + 3) / 4; }

// The data of the goldens, unpacked into a folder for the program.
const fs::path& data() {
  static const struct Unpacked {
    Unpacked() {
      for (const char* name : {"squad.json", "hotpotqa.json", "essays.txt"})
        folder.file(name, read_text_maybe_gz(kGolden / (std::string(name) + ".gz")));
    }
    const TemporaryDirectory folder;
  } unpacked;
  return unpacked.folder.path();
}

// What NVIDIA/RULER's own scripts make (tests/goldens/ruler/README.md).
TEST(Ruler, SamplesEqualTheOriginals) {
  const Json golden = parse_json(read_text_maybe_gz(kGolden / "ruler.json.gz"), "ruler.json");
  std::set<std::string> tasks;
  for (const Json& run : golden) {
    const auto task = run["task"].get<std::string>();
    SCOPED_TRACE(task + " " + run["length"].dump());
    tasks.insert(task);
    RulerOptions options;
    options.length = run["length"].get<int64_t>();
    options.samples = static_cast<int64_t>(run["samples"].size());
    options.data = data();
    const auto samples = make_ruler(task, options, quarter_bytes);
    ASSERT_EQ(samples.size(), run["samples"].size());
    for (size_t i = 0; i < samples.size(); ++i) {
      const Json& expected = run["samples"][i];
      const RulerSample& sample = samples[i];
      EXPECT_EQ(sample.outputs, expected["outputs"].get<std::vector<std::string>>());
      EXPECT_EQ(sample.answer_prefix, expected["answer_prefix"].get<std::string>());
      EXPECT_EQ(sample.length_tokens, expected["length"].get<int64_t>());
      EXPECT_EQ(sha256_hex(sample.input), expected["input_sha256"].get<std::string>());
    }
  }
  EXPECT_EQ(tasks.size(), 13u);
  EXPECT_EQ(ruler_tasks().size(), 13u);
}

TEST(Ruler, BecomesTasksOfAnEvaluation) {
  std::vector<TaskRequest> requests(3);
  requests[0].name = "gsm8k";
  requests[1].name = "ruler_8k_vt";
  requests[2].name = "ruler_8k";
  const auto expanded = expand_ruler(requests);
  ASSERT_EQ(expanded.size(), 14u);
  EXPECT_EQ(expanded[0].name, "gsm8k");
  EXPECT_EQ(expanded[1].name, "ruler_8k_vt");
  EXPECT_EQ(expanded[2].name, "ruler_8k_niah_single_1");
  EXPECT_EQ(ruler_length("ruler"), 0);
  EXPECT_EQ(ruler_length("ruler_16k_vt"), 16384);
  requests[1].name = "ruler_8k_nothing";
  EXPECT_THROW(expand_ruler(requests), Error);

  RulerOptions options;
  options.samples = 2;
  const Task task = make_ruler_task("ruler_4k_vt", options, quarter_bytes);
  const auto samples = make_ruler("vt", options, quarter_bytes);
  ASSERT_EQ(task.subtasks.front().test.size(), 2u);
  PromptOptions plain;
  Prompter prompter(task, task.subtasks.front(), plain, nullptr);
  const Prompt prompt = prompter.next();
  EXPECT_EQ(prompt.contexts.front(), samples[0].input + samples[0].answer_prefix);
  std::string whole;
  for (const std::string& expected : samples[0].outputs) whole += expected + " ";
  const auto judged = task.kinds.front()->judge(task.subtasks.front().test[0], whole);
  ASSERT_EQ(judged.size(), task.metrics.size());
  EXPECT_EQ(judged[0].value, 1);
  EXPECT_LT(task.kinds.front()->judge(task.subtasks.front().test[0], "nothing")[0].value, 1);
}

TEST(Ruler, ALengthIsATaskOfThirteen) {
  RulerOptions options;
  options.samples = 1;
  options.data = data();
  const Task task = make_ruler_task("ruler_4k", options, quarter_bytes);
  const auto parts = ruler_tasks();
  ASSERT_EQ(task.subtasks.size(), parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    const Task alone = make_ruler_task("ruler_4k_" + parts[i].name, options, quarter_bytes);
    EXPECT_EQ(task.subtasks[i].name, alone.name);
    EXPECT_EQ(task.subtasks[i].test, alone.subtasks.front().test) << alone.name;
    EXPECT_EQ(task.subtasks[i].max_tokens, parts[i].new_tokens) << alone.name;
  }
}

TEST(Ruler, RefusesWhatCannotBeMade) {
  RulerOptions options;
  options.data = "/nonexistent";
  EXPECT_THROW(make_ruler("niah_single_2", options, quarter_bytes), Error);  // no essays
  EXPECT_THROW(make_ruler("qa_1", options, quarter_bytes), Error);
  EXPECT_THROW(make_ruler("niah_single_9", options, quarter_bytes), Error);
  options.length = 200;
  for (const char* task : {"niah_single_1", "vt", "cwe", "fwe"})
    EXPECT_THROW(make_ruler(task, options, quarter_bytes), Error) << task;
}

// len(words), words[0], words[3000000], words[-1] of niah.py.
TEST(Ruler, PhrasesAreInPythonsOrder) {
  const ruler::NounPhrases phrases;
  std::string before;
  for (int64_t i = 0; i < phrases.size(); i += 997) {
    EXPECT_LT(before, phrases.at(i));
    before = phrases.at(i);
  }
  EXPECT_EQ(phrases.size(), 910 * 6782);
}

TEST(Ruler, ScoresBothWays) {
  const auto all = score_ruler(RulerScore::all, "The ABC\x01and def", {"abc", "xyz", "DEF", "\n"});
  EXPECT_DOUBLE_EQ(all.ruler, 0.75);
  EXPECT_DOUBLE_EQ(all.lm_eval, 0.75);
  const auto part = score_ruler(RulerScore::part, "É so", {"é", "none", "nothing"});
  EXPECT_DOUBLE_EQ(part.ruler, 1);
  EXPECT_DOUBLE_EQ(part.lm_eval, 1.0 / 3);
  EXPECT_DOUBLE_EQ(score_ruler(RulerScore::part, "no", {"yes"}).ruler, 0);
}

}  // namespace
}  // namespace narrow::evaluate
