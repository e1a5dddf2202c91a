// The cost half of an analysis: latencies, throughput, queries per dollar, cost reduction.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "analyse/analysis.h"

namespace narrow::analyse {

// USD per hour of the machine a format ran on; none: unknown.
std::optional<double> price_of(const StudyRows& rows, const std::string& format,
                               const Options& options);

struct CostResults {
  std::vector<ScenarioResult> scenarios;
  std::vector<CostResult> costs;  // baseline included, with a reduction of 1
  std::vector<std::string> warnings;
};

// Throws Error::refused when Options::traffic names a scenario that was not measured.
CostResults analyse_cost(const StudyRows& rows, const std::vector<std::string>& formats,
                         const Options& options);

// Whether the rows show that a format is cheaper than the baseline: the interval lies above 1, or,
// without one, it is cheaper in every one of at least six scenarios (sign test p < 0.05).
bool shown_cheaper(const CostResult& cost);
// The reverse, by the same rule.
bool shown_dearer(const CostResult& cost);

}  // namespace narrow::analyse
