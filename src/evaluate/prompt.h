// Prompts of a task, document by document, byte for byte as lm-evaluation-harness builds them. What
// 0.4.5 does in another way: behind a chat template the blank stays before a choice, and a
// `context` stands behind the model's turn; examples equal to the document are left out without
// another in their place; examples that are not turns are drawn twice, of which the second draw
// counts.
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
  bool chat = false;             // through the chat template
  bool multiturn = true;         // behind it: each example a turn; otherwise one message for all
};

// What is asked about one document. choice: one context, several continuations; context: as many
// contexts as continuations; continuation: one of each; rolling: the text as continuation of an
// empty context; generate: one context, no continuation.
struct Prompt {
  std::vector<std::string> contexts;
  std::vector<std::string> continuations;
  std::vector<std::string> choices;  // continuations without the blank before
  int64_t gold = 0;                  // index of the right one; -1: none is, as in a few rows of
                                     // BIG-Bench Hard, where every answer counts as wrong
  bool gold_is_text = false;         // the task names it by its text
  std::string target;                // text of the right answer; of several, their list as written
  std::vector<std::string> targets;  // several right answers; empty: the one
  std::string counted;               // rolling: the text whose words and bytes are counted
};

// Throws Error::refused when a subtask has too few examples to draw from: cheap, to be called
// before a model is loaded.
void check_shots(const Task& task, const PromptOptions& options);

// Builds prompts in the order of the documents: the few-shot generator advances with each, so none
// may be left out. One per subtask. Throws Error::refused for a document that a template does not
// fit.
// REQUIRES: check_shots passed; task and subtask outlive the prompter.
class Prompter {
 public:
  Prompter(const Task& task, const Subtask& subtask, const PromptOptions& options,
           const endpoint::Endpoint* endpoint);  // endpoint: for chat templates; else nullptr
  Prompt next();  // REQUIRES: called at most subtask.test.size() times

 private:
  // A part of the prompt: in plain text the content and what parts it from the next; behind a chat
  // template a message.
  struct Message {
    const char* role;
    std::string content, delimiter;
  };
  Json variables(const Json& doc) const;
  int64_t gold(const Json& variables, const std::vector<std::string>& choices) const;
  std::string right_answer(const Json& variables) const;
  std::vector<std::string> several_answers(const Json& variables) const;
  std::string prefix(const Json& variables) const;
  void add_turn(std::vector<Message>& messages, std::string question, const std::string& answer,
                const std::string& prefix) const;
  void add_example(std::vector<Message>& messages, const Json& doc) const;
  std::vector<const Json*> draw(const Json& doc);
  std::vector<const Json*> draw_0_4_5(const Json& doc);
  // begun: the last message begins the model's turn, which stays open.
  std::string render(const std::vector<Message>& messages, bool begun) const;
  std::string render_chat(const std::vector<Message>& messages, bool begun) const;
  std::vector<std::string> texts(const Json& value) const;
  std::string where() const;

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
// An empty context is the model's BOS (or EOS) token. Special tokens are added as the tokenizer
// does, unless the text begins with BOS (of a template).
//
// What is longer than the model's context, with the answer that is to come, loses tokens at the
// left, as in the vLLM models of the harness's 0.4.5 (to score a choice its Hugging Face models
// keep one token more, 0.4.13's vLLM models one fewer); `cut`, if given, is raised to their number.
// Throws Error::refused where the answer alone fills the context.
endpoint::ScoreRequest score_request(const endpoint::Endpoint& endpoint, std::string context,
                                     std::string continuation, bool chat, int64_t* cut = nullptr);
// The same for several continuations of one context, which is encoded once.
std::vector<endpoint::ScoreRequest> score_requests(const endpoint::Endpoint& endpoint,
                                                   std::string context,
                                                   const std::vector<std::string>& continuations,
                                                   bool chat, int64_t* cut = nullptr);
std::vector<int32_t> generation_prompt(const endpoint::Endpoint& endpoint,
                                       const std::string& context, int64_t max_tokens, bool chat,
                                       int64_t* cut = nullptr);

}  // namespace narrow::evaluate
