#include "evaluate/metric.h"

#include "evaluate/ifeval.h"

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

}  // namespace

const std::vector<MetricKind>& metric_kinds() {
  static const std::vector<MetricKind> kinds{
      {"ifeval",
       {"prompt_level_strict_acc", "inst_level_strict_acc", "prompt_level_loose_acc",
        "inst_level_loose_acc"},
       ifeval},
  };
  return kinds;
}

const MetricKind* find_metric_kind(const std::string& name) {
  for (const MetricKind& kind : metric_kinds())
    if (name == kind.name) return &kind;
  return nullptr;
}

}  // namespace narrow::evaluate
