// Scores of rows, and the files lm-evaluation-harness leaves after a run: results.json and
// samples_<task>.jsonl, with its names, formulas and hashes. Pure functions over rows.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "evaluate/run.h"

namespace narrow::evaluate {

// A metric's value for a set of documents: a mean, but for metrics of all documents together
// (evaluate/corpus_metric.h, evaluate/rolling.h) and "perplexity".
struct Score {
  std::string metric;  // "acc,none", "exact_match,strict-match"
  double mean = 0;
  // Of one set of documents: sample standard deviation / sqrt(n). Of a group: pooled over its
  // subtasks. None where a set has fewer than two documents.
  std::optional<double> standard_error;
  int64_t documents = 0;
};

// Scores of a subtask, a group or, by the task's own name, the whole. The score of several subtasks
// weighs them by their documents.
std::vector<Score> summarize(const Task& task, const std::vector<Json>& rows,
                             const std::string& name);

// The score of the Open LLM Leaderboard: 0 … 100 between guessing and all right, below guessing 0
// (huggingface/leaderboards, normalization.md). Of a task whose subtasks differ in the number of
// answers the plain mean of theirs, otherwise of all documents together. None where the task has no
// such score.
std::optional<double> normalized_score(const Task& task, const std::vector<Json>& rows,
                                       const std::string& name);

// Not of perplexities and error rates.
bool higher_is_better(const std::string& metric);

struct Evaluated {
  const Task* task;
  RunOptions options;
  std::string suite;       // that named the task; empty: none
  std::vector<Json> rows;  // in the order of the run
};

// What stands for a task in the average of a suite, 0 … 100: its normalized score, otherwise the
// mean of acc_norm, acc, mc2 or exact_match,strict-match, the first that it has, otherwise of its
// first metric.
double headline(const Evaluated& evaluated);

// results.json without its "config": results, groups, group_subtasks, configs (task_key of each),
// versions, n-shot, higher_is_better, n-samples (with "cut", the prompts that lost tokens, if any);
// suites: the headline of each task, their average.
Json results_document(const std::vector<Evaluated>& evaluated);

// samples_<subtask>.jsonl: one line per document, and for generation per document and filter.
std::string samples_lines(const Task& task, const Subtask& subtask, const std::vector<Json>& rows);

}  // namespace narrow::evaluate
