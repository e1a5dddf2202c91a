// From what a model answered about one document to the answer's text and scores. Pure, so that
// stored rows can be scored again without asking anything.
#pragma once

#include "evaluate/prompt.h"

namespace narrow::evaluate {

// Adds answer, target, metrics and weights (of metrics whose mean weighs documents) to a row that
// has loglikelihoods, or response and, of several samples, responses. Throws Error::refused for a
// row without them.
void judge(const Task& task, const Json& document, const Prompt& prompt, Json& row);

// Rows of a run with answer, target and metrics as the task scores now; what was asked and answered
// stays. Throws Error::refused for a row of no document of the task.
std::vector<Json> rescore(const Task& task, std::vector<Json> rows);

}  // namespace narrow::evaluate
