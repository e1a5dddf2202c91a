#include "evaluate/code_metric.h"

#include "base/error.h"
#include "evaluate/code_task.h"

namespace narrow::evaluate {
namespace {

CodeJudge& code_judge() {
  static CodeJudge instance;
  return instance;
}

// For each of `ks`, first of the base tests, then of all where the set has more.
std::vector<Judged> judge_all(CodeSet set, CodeAnswer answer, const Json& document,
                              std::span<const std::string> responses, std::vector<int64_t> ks,
                              Json& notes) {
  std::vector<CodeJudge::Question> questions;
  for (const std::string& response : responses) questions.push_back({&document, &response});
  const auto n = static_cast<int64_t>(responses.size());
  if (n < ks.back())
    throw Error::refused(
        "pass@" + std::to_string(ks.back()) + " of " + std::to_string(n) + " samples", "code task",
        "ask for more with \"samples\"");
  int64_t base = 0, plus = 0;
  notes = Json::array();
  for (const CodeVerdict& verdict : code_judge().judge_all(set, answer, questions)) {
    base += verdict.base;
    plus += verdict.plus;
    Json note{{"status", verdict.status}, {"detail", verdict.detail}};
    if (set == CodeSet::evalplus) {
      note["base"] = verdict.base;
      note["program"] = verdict.program;
    }
    notes.push_back(std::move(note));
  }
  std::vector<Judged> scores;
  for (const int64_t k : ks) scores.push_back({pass_at_k(n, base, k)});
  if (set == CodeSet::evalplus)
    for (const int64_t k : ks) scores.push_back({pass_at_k(n, plus, k)});
  return scores;
}

}  // namespace

std::string code_environment() { return code_judge().jail().description(); }

std::vector<Judged> judge_humaneval(const Json& document, std::span<const std::string> responses,
                                    Json& notes) {
  return judge_all(CodeSet::humaneval, CodeAnswer::completion, document, responses, {1}, notes);
}

std::vector<Judged> judge_mbpp(const Json& document, std::span<const std::string> responses,
                               Json& notes) {
  return judge_all(CodeSet::mbpp, CodeAnswer::program, document, responses, {1}, notes);
}

std::vector<Judged> judge_evalplus_reply(const Json& document,
                                         std::span<const std::string> responses, Json& notes) {
  return judge_all(CodeSet::evalplus, CodeAnswer::reply, document, responses, {1}, notes);
}

std::vector<Judged> judge_evalplus_replies(const Json& document,
                                           std::span<const std::string> responses, Json& notes) {
  return judge_all(CodeSet::evalplus, CodeAnswer::reply, document, responses, {1, 10}, notes);
}

std::vector<Judged> judge_evalplus_completion(const Json& document,
                                              std::span<const std::string> responses, Json& notes) {
  return judge_all(CodeSet::evalplus, CodeAnswer::completion, document, responses, {1}, notes);
}

}  // namespace narrow::evaluate
