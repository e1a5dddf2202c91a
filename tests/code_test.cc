// The code benchmarks against their own programs: prompts of lm-evaluation-harness, verdicts of
// EvalPlus on canonical and mutated solutions (tests/goldens/code).
#include <gtest/gtest.h>

#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "evaluate/code_documents.h"
#include "evaluate/code_task.h"
#include "evaluate/judge.h"
#include "evaluate/prompt.h"

namespace narrow {
namespace {

using namespace evaluate;

const std::filesystem::path kGoldens = NARROW_SOURCE_DIR "/tests/goldens/code";

std::vector<Json> golden(const char* name) { return read_code_documents(kGoldens / name); }

CodeJudge& code_judge() {
  static CodeJudge instance;
  return instance;
}

std::string canonical(const Json& document) {
  return document.at("prompt").get<std::string>() +
         document.at("canonical_solution").get<std::string>();
}

// Puts data into `folder` as tasks/*.yaml expect it.
void write_data(const std::filesystem::path& folder) {
  for (const auto& [name, file] : {std::pair{"humaneval.jsonl.gz", "humaneval/test.jsonl"},
                                   std::pair{"mbpp.jsonl.gz", "mbpp/test.jsonl"},
                                   std::pair{"evalplus.jsonl.gz", "humaneval_plus/test.jsonl"},
                                   std::pair{"evalplus.jsonl.gz", "mbpp_plus/test.jsonl"}}) {
    std::filesystem::create_directories((folder / file).parent_path());
    write_text(folder / file, read_text_maybe_gz(kGoldens / name));
  }
}

TEST(Code, PromptsEqualTheHarness) {
  const TemporaryDirectory folder;
  write_data(folder.path());
  for (const char* name : {"humaneval", "mbpp"}) {
    const Task task = load_task(name, folder.path());
    const PromptOptions options;
    check_shots(task, options);
    Prompter prompter(task, task.subtasks.front(), options, nullptr);
    int compared = 0;
    for (const Json& row : golden("prompts.jsonl.gz")) {
      if (!row.at("task").get<std::string>().starts_with(name)) continue;
      const Prompt prompt = prompter.next();
      EXPECT_EQ(prompt.contexts.at(0), row.at("prompt").get<std::string>());
      EXPECT_EQ(prompt.target, row.at("target").get<std::string>());
      ++compared;
    }
    EXPECT_EQ(compared, 10) << name;
  }
}

TEST(Code, RowsOfEveryTaskAreJudged) {
  const TemporaryDirectory folder;
  write_data(folder.path());
  struct Case {
    const char* task;
    std::vector<std::string> responses;
    Json metrics;
  };
  const Json he = golden("humaneval.jsonl.gz")[0], ep = golden("evalplus.jsonl.gz")[0];
  const std::string body = he.at("canonical_solution"), whole = canonical(ep);
  std::vector<std::string> ten(10, "def nothing():\n    return 1\n");
  ten[3] = "\n" + whole + "\n";
  const std::vector<Case> cases{
      {"humaneval", {body}, {{"pass@1", 1.0}}},
      {"humaneval", {"    return 5\n"}, {{"pass@1", 0.0}}},
      {"humaneval_plus", {whole + "\nprint('done')"}, {{"base_pass@1", 1.0}, {"plus_pass@1", 1.0}}},
      {"humaneval_plus", {"no code"}, {{"base_pass@1", 0.0}, {"plus_pass@1", 0.0}}},
      {"humaneval_plus_completion",
       {ep.at("canonical_solution").get<std::string>()},
       {{"base_pass@1", 1.0}, {"plus_pass@1", 1.0}}},
      {"humaneval_plus_50",
       ten,
       {{"base_pass@1", 0.1}, {"base_pass@10", 1.0}, {"plus_pass@1", 0.1}, {"plus_pass@10", 1.0}}},
      {"mbpp", {golden("mbpp.jsonl.gz")[0].at("code").get<std::string>()}, {{"pass@1", 1.0}}},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.task);
    const Task task = load_task(one.task, folder.path());
    PromptOptions options;
    options.shots = 0;
    Prompter prompter(task, task.subtasks.front(), options, nullptr);
    Json row{{"doc_id", 0}, {"response", one.responses[0]}, {"responses", one.responses}};
    judge(task, task.subtasks.front().test.at(0), prompter.next(), row);
    EXPECT_EQ(row.at("verdicts").size(), one.responses.size());
    for (const auto& [name, value] : one.metrics.items())
      EXPECT_NEAR(row.at("metrics").at(name).get<double>(), value.get<double>(), 1e-12)
          << row.dump();
  }
}

TEST(Code, CanonicalSolutionsPass) {
  for (const auto& [set, file] : {std::pair{CodeSet::humaneval, "humaneval.jsonl.gz"},
                                  std::pair{CodeSet::mbpp, "mbpp.jsonl.gz"},
                                  std::pair{CodeSet::evalplus, "evalplus.jsonl.gz"}}) {
    const auto documents = golden(file);
    std::vector<std::string> programs;
    for (const Json& document : documents)
      programs.push_back(set == CodeSet::mbpp ? document.at("code").get<std::string>()
                                              : canonical(document));
    std::vector<CodeJudge::Question> questions;
    for (size_t i = 0; i < documents.size(); ++i)
      questions.push_back({&documents[i], &programs[i]});
    const auto verdicts = code_judge().judge_all(set, CodeAnswer::program, questions);
    for (size_t i = 0; i < documents.size(); ++i)
      EXPECT_TRUE(verdicts[i].plus) << documents[i].at("task_id") << verdicts[i].detail;
  }
}

TEST(Code, MutantsGetEvalplusVerdicts) {
  std::map<std::string, Json> documents;
  for (Json& document : golden("evalplus.jsonl.gz"))
    documents.emplace(document.at("task_id").get<std::string>(), std::move(document));
  std::vector<Json> expected;
  std::vector<std::string> programs;
  int64_t number = 0;
  for (Json& row : golden("verdicts.jsonl.gz")) {
    if (row.at("task_id") == "HumanEval/32") continue;  // tests/goldens/code/README.md
    if (number++ % 2 != 0) continue;                    // every other one: seconds
    programs.push_back(row.at("program"));
    expected.push_back(std::move(row));
  }
  std::vector<CodeJudge::Question> questions;
  for (size_t i = 0; i < expected.size(); ++i)
    questions.push_back({&documents.at(expected[i].at("task_id")), &programs[i]});
  const auto verdicts = code_judge().judge_all(CodeSet::evalplus, CodeAnswer::program, questions);
  EXPECT_GT(verdicts.size(), 250u);
  for (size_t i = 0; i < verdicts.size(); ++i) {
    const bool base = expected[i].at("base") == "pass";
    const bool plus = base && expected[i].at("plus") == "pass";
    EXPECT_EQ(verdicts[i].base, base) << expected[i].dump() << verdicts[i].detail;
    EXPECT_EQ(verdicts[i].plus, plus) << expected[i].dump() << verdicts[i].detail;
  }
}

// EvalPlus would let these pass: the comparison happens in the program's process, and the special
// oracle of find_zero takes its coefficients from the argument that the program may have emptied.
TEST(Code, EvalplusVerdictsAreNotForged) {
  for (const Json& document : golden("evalplus.jsonl.gz")) {
    const std::string entry = document.at("entry_point");
    const std::string equal =
        "class E:\n    def __eq__(self, o): return True\n    def __iter__(self): return iter(())\n"
        "def " +
        entry +
        "(*a):\n    for x in a:\n        if isinstance(x, list): x.clear()\n"
        "    return E()\n";
    // Compared with nothing but "there is something", or with nothing at all, upstream.
    if (entry == "check_str" || entry == "are_equivalent") continue;
    const CodeVerdict verdict =
        code_judge().judge(CodeSet::evalplus, CodeAnswer::program, document, equal);
    EXPECT_FALSE(verdict.plus) << document.at("task_id");
  }
}

TEST(Code, TimeIsLimited) {
  const Json he = golden("humaneval.jsonl.gz")[0], ep = golden("evalplus.jsonl.gz")[0];
  const auto status = [](CodeSet set, const Json& document, const char* body) {
    return code_judge().judge(set, CodeAnswer::completion, document, body).status;
  };
  EXPECT_EQ(status(CodeSet::humaneval, he, "    while True: pass\n"), "timeout");
  // Judged again alone, since it did not use its time.
  EXPECT_EQ(status(CodeSet::evalplus, ep, "    import time; time.sleep(100)\n    return 1\n"),
            "timeout");
}

}  // namespace
}  // namespace narrow
