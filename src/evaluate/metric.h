// Metrics of generated answers that are more than a comparison of texts, by the name that a task
// file's `metrics` gives them. A new one is a function and a line in the table of metric.cc.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace narrow::evaluate {

// One response, judged: for each of the kind's metrics, in their order, its score in 0 … 1 and how
// many decisions that averages (IFEval's instructions): a task's mean weighs by it.
struct Judged {
  double value = 0;
  int64_t weight = 1;
};

struct MetricKind {
  const char* name;                  // in a task file
  std::vector<std::string> metrics;  // in rows and results, where their filter is "none"
  // Pure, from any thread. Throws Error::refused for a document it cannot judge by.
  std::vector<Judged> (*judge)(const Json& document, const std::string& response);
};

const std::vector<MetricKind>& metric_kinds();

// nullptr: there is none of this name.
const MetricKind* find_metric_kind(const std::string& name);

}  // namespace narrow::evaluate
