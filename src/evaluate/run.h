// Runs a task on an endpoint and turns what comes back into rows and scores.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "evaluate/prompt.h"

namespace narrow::evaluate {

struct RunOptions {
  std::optional<int64_t> limit;  // documents of each subtask; none: all
  PromptOptions prompt;
};

// Called once per document, from the caller's thread; index: position in the run.
using RowSink = std::function<void(int64_t index, Json row)>;

// Everything beside the model that can change a row.
Json task_key(const Task& task, const RunOptions& options);

// Documents of the run.
int64_t document_count(const Task& task, const RunOptions& options);

// Skips the indices in `done`. Requests are in flight side by side; rows come in the order of the
// documents. Throws Error::failed when the endpoint cannot answer.
void run(const Task& task, endpoint::Endpoint& endpoint, const RunOptions& options,
         const std::set<int64_t>& done, const RowSink& sink);

struct Score {
  std::string metric;  // "acc", "exact_match,strict-match"
  double mean = 0;
  double standard_error = 0;  // sample standard deviation / sqrt(n); of a group: over all documents
  int64_t documents = 0;
};

// Scores of a subtask ("" : of all rows).
std::vector<Score> summarize(const Task& task, const std::vector<Json>& rows,
                             const std::string& subtask = "");

}  // namespace narrow::evaluate
