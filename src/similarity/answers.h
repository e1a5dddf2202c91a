// How similar the text stays: greedy answers of base and variant to the same prompts.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "endpoint/endpoint.h"
#include "similarity/bertscore.h"
#include "similarity/text_encoder.h"

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

// How close answers are in meaning, by one encoder: STS and BERTScore.
class AnswerEncoder {
 public:
  struct Options {
    std::optional<int64_t> layer;  // of BERTScore; none: BertScorer's choice
    bool idf = false;              // BERTScore's tokens weighed by rarity in the base's answers
  };
  AnswerEncoder(const std::filesystem::path& directory, const std::string& backend, int threads)
      : AnswerEncoder(directory, backend, threads, Options()) {}
  AnswerEncoder(const std::filesystem::path& directory, const std::string& backend, int threads,
                const Options& options);

  AnswerEncoder(const AnswerEncoder&) = delete;

  // For idf, before the first score: all answers of the base.
  void set_references(const std::vector<Answer>& base);

  // {"sts", "bertscore_precision", "bertscore_recall", "bertscore_f1"}; null for what is undefined.
  Json score(const Answer& base, const Answer& variant);

  // What the scores depend on: name, SHA-256, layer, idf.
  Json key() const;

 private:
  TextEncoder encoder_;
  BertScorer scorer_;
  bool idf_;
};

// The row of one prompt (docs/metrics.md), with the encoder's scores where there is one.
Json compare_answers(const TextPrompt& prompt, const Answer& base, const Answer& variant,
                     AnswerEncoder* encoder = nullptr);

}  // namespace narrow::similarity
