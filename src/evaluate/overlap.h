// Whether questions stand in another text, of calibration say: they do when they share a run of 13
// words with it (Brown et al. 2020, appendix C), words as lm-evaluation-harness's Janitor has them:
// parted by white space, ASCII letters small, ASCII punctuation left out.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_set>

#include "evaluate/task.h"

namespace narrow::evaluate {

class WordRuns {
 public:
  static constexpr size_t kWords = 13;

  void add(const std::string& text);
  // Shorter texts share nothing. Runs are compared by 64-bit hashes.
  bool shared_with(const std::string& text) const;

 private:
  std::unordered_set<uint64_t> runs_;
};

// Documents of the task whose question, without examples, shares a run.
int64_t shared_documents(const Task& task, const WordRuns& runs);

}  // namespace narrow::evaluate
