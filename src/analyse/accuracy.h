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

// formats: baseline first. margin: a share, 0.01 is a point.
AccuracyResults analyse_accuracy(const StudyRows& rows, const std::vector<std::string>& formats,
                                 double margin, const Options& options);

}  // namespace narrow::analyse
