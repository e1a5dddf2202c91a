// ROUGE-1, ROUGE-2 and ROUGE-L between two texts, equal to the Python package rouge_score 0.1.2
// without stemming. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace narrow::similarity {

struct Overlap {
  double precision = 0, recall = 0, f = 0;
};

// Lower case, everything but a-z and 0-9 to blanks, split at blanks.
std::vector<std::string> rouge_tokens(std::string_view text);

// Shared n-grams, each counted as often as in the text that has it less often.
Overlap rouge_n(const std::vector<std::string>& reference,
                const std::vector<std::string>& candidate, size_t n);
// Longest common subsequence. Time: product of the lengths.
Overlap rouge_l(const std::vector<std::string>& reference,
                const std::vector<std::string>& candidate);

}  // namespace narrow::similarity
