// Runs a task on an endpoint and turns what comes back into rows, one for each document.
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

// Called once per document, from the caller's thread; index: position in the run. A row has
//   doc_id, subtask, doc_hash (SHA-256 as lm-evaluation-harness makes it), prompt_hash (of every
//   context and continuation), prompt, choices, continuations, target, answer, metrics, cluster and
//   loglikelihoods, is_greedy   of a choice (answer: the likeliest), or
//   response, finish            of a generation (answer: filter → extracted text); of several
//   samples the first, all of them in responses; finish is "length" when one was cut,
//   weights                     where a metric averages several decisions: their number.
using RowSink = std::function<void(int64_t index, Json row)>;

// Everything beside the model that can change a row.
Json task_key(const Task& task, const RunOptions& options);

// Documents of the run.
int64_t document_count(const Task& task, const RunOptions& options);

// Skips the indices in `done`. Requests are in flight side by side; rows come in the order of the
// documents. `answered` is called once, from any thread, when the endpoint has answered everything:
// it is not used any more, while verdicts may still be missing. Throws Error::failed when the
// endpoint cannot answer; `answered` is not called then.
void run(const Task& task, endpoint::Endpoint& endpoint, const RunOptions& options,
         const std::set<int64_t>& done, const RowSink& sink,
         const std::function<void()>& answered = {});

}  // namespace narrow::evaluate
