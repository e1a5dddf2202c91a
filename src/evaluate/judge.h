// From what a model answered about one document to the answer's text and scores. Pure, so that
// stored rows can be scored again without asking anything.
#pragma once

#include "evaluate/prompt.h"

namespace narrow::evaluate {

// Adds answer, target, metrics and weights (of metrics whose mean weighs documents) to a row that
// has loglikelihoods, or response and, of several samples, responses. Throws Error::refused for a
// row without them.
void judge(const Task& task, const Json& document, const Prompt& prompt, Json& row);

}  // namespace narrow::evaluate
