// The accuracy half of an analysis: tasks, paired comparisons, averages.
#pragma once

#include <string>
#include <vector>

#include "analyse/analysis.h"

namespace narrow::analyse {

struct AccuracyResults {
  std::vector<TaskResult> tasks;
  std::vector<Average> averages;
  std::vector<std::string> warnings;
};

// The metric a task is judged by: what the leaderboards report for it.
std::string headline_metric(const EvalItem& item);
double score_of(const EvalItem& item, const std::string& metric);  // 0 when it has none
// What was answered, as the metric sees it: "exact_match,strict-match" looks at that filter.
std::string answer_of(const EvalItem& item, const std::string& metric);

// What may be claimed, and by which margins: shares, 0.01 is a point.
struct Bounds {
  double margin = 0.01;                   // points per task
  std::optional<double> lossless_margin;  // relative
  std::string silenced;  // why nothing may be claimed at all, as a sentence; empty: claims are made
};

// formats: baseline first.
AccuracyResults analyse_accuracy(const StudyRows& rows, const std::vector<std::string>& formats,
                                 const Bounds& bounds, const Options& options);

}  // namespace narrow::analyse
