// Questions to read: what baseline and format were asked and what each answered, chosen from a
// study so that a page can hold them. Flips come first.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "store/store.h"

namespace narrow::analyse {

struct EvalCell;

// What became of an answer: right to wrong, wrong to right, one wrong answer for another, or the
// same answer.
enum class Flip { lost, gained, changed, none };
std::string to_string(Flip flip);  // "right to wrong", ...

struct Sample {
  std::string task, subtask, format, metric;
  int64_t doc_id = 0;
  Flip flip = Flip::none;
  double score_base = 0, score = 0;
  // 0 to 1. Of choices: the largest change of a choice's probability among the choices. Of a
  // generated answer: the share of it after the first difference.
  double divergence = 0;
  std::vector<std::string>
      contexts;  // the exact prompt; several where the choice is in the context
  std::string target;
  std::vector<std::string> continuations;  // scored behind the contexts, where these are several
  // Of a choice: texts, log-likelihoods of both, the chosen one as the metric sees it.
  std::vector<std::string> choices;
  std::vector<double> loglikelihoods_base, loglikelihoods;
  // Of a generated answer: both responses. extracted: what the metric's filter took from them.
  std::string response_base, response, extracted_base, extracted;
};

// Of one format on one task: how many pairs there are, and how many are in the list.
struct SampleCount {
  std::string task, format;
  int64_t pairs = 0, lost = 0, gained = 0, changed = 0, chosen = 0;
};

struct Samples {
  std::vector<Sample> list;  // by task, format, then flips first
  std::vector<SampleCount> counts;
};

constexpr int64_t kSamplesPerGroup = 32;  // of one format on one task

// Pairs of the baseline's and each other format's items with the same prompt. rows_of answers the
// rows of evals[i]; it is called once for each cell, so that one cell's texts are held at a time.
// Of each group kSamplesPerGroup: lost and gained in turn, then changed, then the largest
// divergences of choices.
Samples collect_samples(const std::vector<EvalCell>& evals, const std::string& baseline,
                        const std::function<std::vector<store::Row>(size_t cell)>& rows_of);

}  // namespace narrow::analyse
