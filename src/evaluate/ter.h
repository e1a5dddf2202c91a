// Translation edit rate (Snover et al. 2006) as sacrebleu computes it by default, which
// lm-evaluation-harness's `ter` is: words at blanks, in lower case; how many insertions, deletions,
// substitutions and shifts of a run of words make the target of the answer. Pure.
#pragma once

#include <cstdint>
#include <string>

namespace narrow::evaluate {

struct Edits {
  int64_t edits = 0;
  int64_t words = 0;  // of the target; without any, each word of the answer is an edit
};

// Shifts are searched greedily and within Tercom's limits: the least number may be smaller. Memory
// is linear in both lengths, and so is time: at most a thousand shifts are tried, each compared
// within a beam around the diagonal.
// REQUIRES: valid UTF-8.
Edits translation_edits(const std::string& answer, const std::string& target);

}  // namespace narrow::evaluate
