#include "similarity/rouge.h"

#include <algorithm>
#include <map>
#include <utility>

namespace narrow::similarity {
namespace {

Overlap overlap(double shared, double reference, double candidate) {
  Overlap result;
  result.precision = shared / std::max(1.0, candidate);
  result.recall = shared / std::max(1.0, reference);
  if (result.precision + result.recall > 0)
    result.f = 2 * result.precision * result.recall / (result.precision + result.recall);
  return result;
}

using Counts = std::map<std::vector<std::string_view>, int64_t>;

Counts count_ngrams(const std::vector<std::string>& tokens, size_t n) {
  Counts counts;
  for (size_t i = 0; i + n <= tokens.size(); ++i)
    ++counts[{tokens.begin() + static_cast<long>(i), tokens.begin() + static_cast<long>(i + n)}];
  return counts;
}

}  // namespace

std::vector<std::string> rouge_tokens(std::string_view text) {
  std::vector<std::string> tokens;
  std::string token;
  for (char c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      token += c;
    } else if (!token.empty()) {
      tokens.push_back(std::exchange(token, {}));
    }
  }
  if (!token.empty()) tokens.push_back(token);
  return tokens;
}

Overlap rouge_n(const std::vector<std::string>& reference,
                const std::vector<std::string>& candidate, size_t n) {
  const Counts in_reference = count_ngrams(reference, n), in_candidate = count_ngrams(candidate, n);
  int64_t shared = 0, total_reference = 0, total_candidate = 0;
  for (const auto& [ngram, count] : in_reference) {
    total_reference += count;
    if (const auto found = in_candidate.find(ngram); found != in_candidate.end())
      shared += std::min(count, found->second);
  }
  for (const auto& [ngram, count] : in_candidate) total_candidate += count;
  return overlap(static_cast<double>(shared), static_cast<double>(total_reference),
                 static_cast<double>(total_candidate));
}

Overlap rouge_l(const std::vector<std::string>& reference,
                const std::vector<std::string>& candidate) {
  if (reference.empty() || candidate.empty()) return {};
  std::vector<int64_t> row(candidate.size() + 1, 0);
  for (const std::string& token : reference) {
    int64_t diagonal = 0;
    for (size_t j = 0; j < candidate.size(); ++j) {
      const int64_t above = row[j + 1];
      row[j + 1] = token == candidate[j] ? diagonal + 1 : std::max(above, row[j]);
      diagonal = above;
    }
  }
  return overlap(static_cast<double>(row.back()), static_cast<double>(reference.size()),
                 static_cast<double>(candidate.size()));
}

}  // namespace narrow::similarity
