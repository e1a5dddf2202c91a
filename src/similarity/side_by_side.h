// Two result folders of `narrow eval` (or of lm-evaluation-harness with --log_samples) document by
// document: the same question, both answers, both verdicts. Reads samples_*.jsonl and nothing else;
// pure over those files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace narrow::similarity {

// What one model made of one document.
struct SampleSide {
  std::string text;                    // generated; empty where choices were scored
  std::vector<double> loglikelihoods;  // of the choices
  std::optional<size_t> chosen;        // the likeliest choice, per character where acc_norm counts
  // Of each filter, in the order of the file: what it made of the text.
  std::vector<std::pair<std::string, std::string>> filtered;
  std::vector<std::pair<std::string, double>> scores;  // "acc,none", "exact_match,strict-match"
};

struct SamplePair {
  std::string task;
  int64_t doc_id = 0;
  std::vector<std::string> prompts;  // exact; several where one question has several contexts
  std::vector<std::string> choices;  // continuations; empty: the answer was generated
  std::string target;
  SampleSide base, variant;

  // The task's headline score of each: acc_norm, else acc, mc2, the first there is.
  double base_score() const;
  double variant_score() const;
  bool lost() const;    // right before, wrong now: the score crosses one half
  bool gained() const;  // the reverse
  // Another text or another choice.
  bool diverged() const;
};

struct SamplePairs {
  std::vector<SamplePair> pairs;  // by task, then document
  int64_t only_base = 0, only_variant = 0;
};

// The documents of `task` (empty: of all) that both folders have. A task's name takes in its
// subtasks ("mmlu" is mmlu_anatomy too). Throws Error::refused for a folder without samples, a line
// that is no sample, a task neither has, and a document that was asked in other words.
SamplePairs pair_samples(const std::filesystem::path& base, const std::filesystem::path& variant,
                         const std::string& task);

// For a terminal: control characters but line ends and tabs are written as \x1b.
std::string to_text(const SamplePair& pair, const std::string& base_name,
                    const std::string& variant_name);
Json to_json(const SamplePair& pair);

}  // namespace narrow::similarity
