// Metrics of all documents of a task together, which are no mean over documents: BLEU, chrF and
// TER of generated answers as sacrebleu computes them by default (lm-evaluation-harness's `bleu`,
// `chrf` and `ter`), F1 and Matthews' correlation of choices as scikit-learn does (its `f1` and
// `mcc`). Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace narrow::evaluate {

// What an answer adds to the counts of a corpus, which are summed.
using Counts = std::vector<int64_t>;

struct TextMetric {
  const char* name;
  Counts (*count)(const std::string& answer, const std::string& target);
  double (*score)(const Counts& summed);  // 0 … 100; TER above 100 too
  bool higher_is_better = true;
};
const std::vector<TextMetric>& text_metrics();
// nullptr: there is none of this name.
const TextMetric* find_text_metric(const std::string& name);

// REQUIRES: at least one document.
double corpus_score(const TextMetric& metric, const std::vector<Counts>& documents);
// Standard deviation of the scores of a hundred resamplings, drawn as the harness draws them
// (bootstrap_stderr).
// REQUIRES: at least two documents.
double corpus_error(const TextMetric& metric, const std::vector<Counts>& documents);

// Of the right choice and the chosen one, by index; -1: no choice is right.
using ChoicePairs = std::vector<std::pair<int64_t, int64_t>>;
struct ChoiceMetric {
  const char* name;
  // f1: of choice 1 among two; throws Error::refused when there are others, as scikit-learn does.
  double (*score)(const ChoicePairs& pairs);
};
const ChoiceMetric* find_choice_metric(const std::string& name);

}  // namespace narrow::evaluate
