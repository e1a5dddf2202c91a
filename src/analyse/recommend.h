// The recommendation, by the study's reasoning: of the formats whose accuracy loss is tolerable,
// synchronous traffic takes the one with the lowest cost per query, asynchronous traffic the one
// with the most queries per dollar, mixed traffic the best weighted mean of both. Words claim no
// more than the intervals do: a format whose gain and loss are both shown is "supported"; without
// one, the cheapest that is not shown to lose too much is named as provisional.
#pragma once

#include <string>
#include <vector>

#include "analyse/analysis.h"

namespace narrow::analyse {

// Reads formats, averages, divergences, scenarios and costs of the analysis.
std::vector<Recommendation> recommend(const Analysis& analysis, const Options& options);

}  // namespace narrow::analyse
