#include "evaluate/metric.h"

#include "base/error.h"
#include "evaluate/choice_letter.h"
#include "evaluate/code_metric.h"
#include "evaluate/ifeval.h"
#include "evaluate/math_answer.h"
#include "evaluate/ruler.h"

namespace narrow::evaluate {
namespace {

// Prompt level: every instruction followed. Instruction level: the share followed, which a task's
// mean weighs by their number, so that it is over all instructions of all prompts.
std::vector<Judged> ifeval(const Json& document, const std::string& response) {
  const IfevalVerdict verdict = judge_ifeval(document, response);
  const auto share = [](const std::vector<bool>& followed) {
    double sum = 0;
    for (const bool one : followed) sum += one;
    const auto count = static_cast<int64_t>(followed.size());
    return Judged{count ? sum / static_cast<double>(count) : 0, count};
  };
  return {{verdict.prompt_strict ? 1.0 : 0.0},
          share(verdict.instruction_strict),
          {verdict.prompt_loose ? 1.0 : 0.0},
          share(verdict.instruction_loose)};
}

// MATH: the answer equals that of the worked solution, as math-verify and as Minerva compare.
std::vector<Judged> math_equivalence(const Json& document, const std::string& response) {
  const auto solution = json_get<std::string>(document, "solution", "a MATH problem");
  return {{math_verdict(response, solution) ? 1.0 : 0.0},
          {math_verdict_minerva(response, solution) ? 1.0 : 0.0}};
}

std::vector<Judged> math_equivalence_0_4_5(const Json& document, const std::string& response) {
  const auto solution = json_get<std::string>(document, "solution", "a MATH problem");
  return {{math_verdict_0_4_5(response, solution) ? 1.0 : 0.0}};
}

// The right choice's letter, of a free response.
std::vector<Judged> letter(const Json& document, const std::string& response) {
  const auto right = json_get<std::string>(document, "answer", "a question with lettered choices");
  const auto found = choice_letter(response);
  return {{found && right == std::string(1, *found) ? 1.0 : 0.0}};
}

// RULER: what of the expected texts the answer holds, as its own scripts count and as the
// harness's.
std::vector<Judged> ruler(const Json& document, const std::string& response) {
  const std::string where = "a RULER sample";
  const bool part = json_get<std::string>(document, "score", where) == "part";
  const RulerVerdict verdict =
      score_ruler(part ? RulerScore::part : RulerScore::all, response,
                  json_get<std::vector<std::string>>(document, "outputs", where));
  return {{verdict.ruler}, {verdict.lm_eval}};
}

}  // namespace

const std::vector<MetricKind>& metric_kinds() {
  static const std::vector<MetricKind> kinds{
      {"ifeval",
       {"prompt_level_strict_acc", "inst_level_strict_acc", "prompt_level_loose_acc",
        "inst_level_loose_acc"},
       ifeval},
      {"choice_letter", {"extractive_match"}, letter},
      {"math_equivalence", {"exact_match", "exact_match_original"}, math_equivalence},
      {"math_equivalence_0_4_5", {"exact_match"}, math_equivalence_0_4_5},
      {"ruler", {"ruler", "ruler_lm_eval"}, ruler},
      {"humaneval", {"pass@1"}, nullptr, judge_humaneval, code_environment},
      {"mbpp", {"pass@1"}, nullptr, judge_mbpp, code_environment},
      {"evalplus", {"base_pass@1", "plus_pass@1"}, nullptr, judge_evalplus_reply, code_environment},
      {"evalplus_many",
       {"base_pass@1", "base_pass@10", "plus_pass@1", "plus_pass@10"},
       nullptr,
       judge_evalplus_replies,
       code_environment},
      {"evalplus_completion",
       {"base_pass@1", "plus_pass@1"},
       nullptr,
       judge_evalplus_completion,
       code_environment},
  };
  return kinds;
}

const MetricKind* find_metric_kind(const std::string& name) {
  for (const MetricKind& kind : metric_kinds())
    if (name == kind.name) return &kind;
  return nullptr;
}

}  // namespace narrow::evaluate
