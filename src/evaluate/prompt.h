// Prompts of a task, document by document, byte for byte as lm-evaluation-harness builds them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "endpoint/endpoint.h"
#include "evaluate/python_random.h"
#include "evaluate/task.h"

namespace narrow::evaluate {

struct PromptOptions {
  std::optional<int64_t> shots;  // none: the task's number
  bool chat = false;             // through the chat template, examples as turns
};

// What is asked about one document. choice: one context, several continuations; context: as many
// contexts as continuations; generate: one context, no continuation.
struct Prompt {
  std::vector<std::string> contexts;
  std::vector<std::string> continuations;
  std::vector<std::string> choices;  // continuations without the blank before
  int64_t gold = 0;                  // index of the right one
  std::string target;                // text of the right answer
};

// Builds prompts in the order of the documents: the few-shot generator advances with each, so none
// may be left out. One per subtask. Throws Error::refused when there are too few examples.
class Prompter {
 public:
  Prompter(const Task& task, const Subtask& subtask, const PromptOptions& options,
           const endpoint::Endpoint* endpoint);  // endpoint: for chat templates; else nullptr
  Prompt next();  // REQUIRES: called at most subtask.test.size() times

 private:
  Json variables(const Json& doc) const;
  std::string example_answer(const Json& variables) const;
  std::string question(const Json& variables, bool as_example) const;
  std::vector<const Json*> draw();
  std::string wrap_chat(const std::vector<std::pair<std::string, std::string>>& examples,
                        const std::string& last_question) const;

  const Task& task_;
  const Subtask& subtask_;
  const PromptOptions options_;
  const endpoint::Endpoint* endpoint_;
  const int64_t shots_;
  PythonRandom random_;
  size_t index_ = 0;
};

// Token ids of context and continuation by lm-evaluation-harness's rule: blanks at the end of the
// context move to the continuation, both are encoded together, and the context's own length cuts.
// Too long: cut from the left. An empty context is the model's BOS (or EOS) token.
endpoint::ScoreRequest score_request(const endpoint::Endpoint& endpoint, std::string context,
                                     std::string continuation, bool chat);
std::vector<int32_t> generation_prompt(const endpoint::Endpoint& endpoint,
                                       const std::string& context, int64_t max_tokens, bool chat);

}  // namespace narrow::evaluate
