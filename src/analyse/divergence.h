// The similarity half of an analysis: how far a variant's predictions and texts move from the
// baseline's.
#pragma once

#include <string>
#include <vector>

#include "analyse/analysis.h"

namespace narrow::analyse {

std::vector<Divergence> analyse_divergence(const StudyRows& rows,
                                           const std::vector<std::string>& formats,
                                           const Options& options);
std::vector<TextSimilarity> analyse_texts(const StudyRows& rows,
                                          const std::vector<std::string>& formats,
                                          const Options& options);

}  // namespace narrow::analyse
