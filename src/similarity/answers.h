// How similar the text stays: greedy answers of base and variant to the same prompts.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "endpoint/endpoint.h"

namespace narrow::similarity {

struct TextPrompt {
  std::string id;
  std::string text;
};

// Rows of a .jsonl file with "id" (or "uid", "question_id") and "text" (or "prompt", or "turns"),
// the first `count`. Throws Error::refused when there are fewer.
std::vector<TextPrompt> read_prompts(const std::string& file, int64_t count);

struct Answer {
  std::vector<int32_t> ids;
  std::string text;
};

using AnswerSink = std::function<void(int64_t index, Answer answer)>;

// Greedy answers, through the chat template where the model has one, in the order of the prompts.
// Skips indices in `done`.
void generate_answers(endpoint::Endpoint& endpoint, const std::vector<TextPrompt>& prompts,
                      int64_t max_tokens, const std::set<int64_t>& done, const AnswerSink& sink);

// The row of one prompt (docs/metrics.md).
Json compare_answers(const TextPrompt& prompt, const Answer& base, const Answer& variant);

}  // namespace narrow::similarity
