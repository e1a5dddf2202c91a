// Canonical solutions of the four code benchmarks through the jail and the oracle: all must pass,
// then how many verdicts a second.
//
//     code_verdicts DATA    with humaneval/, humaneval_plus/, mbpp/ and mbpp_plus/ in it
#include <fmt/format.h>

#include <chrono>
#include <filesystem>

#include "base/error.h"
#include "evaluate/code_documents.h"
#include "evaluate/code_task.h"

namespace {

using namespace narrow;
using namespace narrow::evaluate;

std::string solution(CodeSet set, const Json& document) {
  // Two problems' tests want what upstream never runs; a program may define it as well.
  if (set == CodeSet::mbpp)
    return document.at("code").get<std::string>() + "\n" +
           document.at("test_setup_code").get<std::string>();
  return document.at("prompt").get<std::string>() +
         document.at("canonical_solution").get<std::string>();
}

// Answers how many failed.
int run(CodeJudge& judge, const char* name, CodeSet set, const std::filesystem::path& path) {
  const std::vector<Json> list = read_code_documents(path);
  std::vector<std::string> solutions;
  for (const Json& document : list) solutions.push_back(solution(set, document));
  std::vector<CodeJudge::Question> questions;
  for (size_t i = 0; i < list.size(); ++i) questions.push_back({&list[i], &solutions[i]});
  int failed = 0;
  for (const char* pass : {"first", "again"}) {  // EvalPlus's references are kept after the first
    const auto begin = std::chrono::steady_clock::now();
    const auto verdicts = judge.judge_all(set, CodeAnswer::program, questions);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    int passed = 0;
    for (size_t i = 0; i < list.size(); ++i) {
      passed += verdicts[i].plus;
      if (!verdicts[i].plus)
        fmt::print("  {} {}: {}\n", list[i].at("task_id").dump(), verdicts[i].status,
                   verdicts[i].detail);
    }
    fmt::print("{:15} {}: {} of {} pass, {:.1f} s, {:.1f} verdicts/s\n", name, pass, passed,
               list.size(), seconds.count(), static_cast<double>(list.size()) / seconds.count());
    failed += static_cast<int>(list.size()) - passed;
  }
  return failed;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return fmt::print(stderr, "code_verdicts DATA\n"), 2;
  const std::filesystem::path data = arguments[1];
  try {
    CodeJudge judge;
    fmt::print("{}\n", judge.jail().description());
    int failed = run(judge, "humaneval", CodeSet::humaneval, data / "humaneval/HumanEval.jsonl.gz");
    failed += run(judge, "mbpp", CodeSet::mbpp, data / "mbpp/mbpp.jsonl");
    failed += run(judge, "humaneval_plus", CodeSet::evalplus,
                  data / "humaneval_plus/HumanEvalPlus.jsonl.gz");
    failed += run(judge, "mbpp_plus", CodeSet::evalplus, data / "mbpp_plus/MbppPlus.jsonl.gz");
    return failed == 0 ? 0 : 1;
  } catch (const Error& error) {
    return fmt::print(stderr, "{}\n", error.what()), error.exit_status();
  }
}
