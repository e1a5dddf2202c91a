// For tests: an endpoint without a model. Scores are numbers made from the token ids, so that equal
// requests have equal answers and different ones nearly never; a generation is a text made from its
// prompt, or the one set.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <utility>

#include "base/file.h"
#include "endpoint/endpoint.h"

namespace narrow::evaluate::test {

class Endpoint : public endpoint::Endpoint {
 public:
  Endpoint()
      : tokenizer_(text::Tokenizer::from_json(
            read_text(std::string(NARROW_SOURCE_DIR) +
                      "/tests/goldens/stories260k/tokenizer.json"),
            "{}")),
        template_(
            "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>\n{% endfor %}"
            "{% if add_generation_prompt %}<assistant>{% endif %}") {
    info_.model = "test";
    info_.context_tokens = 1 << 20;
  }

  const endpoint::Info& info() const override { return info_; }
  const text::Tokenizer& tokenizer() const override { return tokenizer_; }
  const text::ChatTemplate* chat_template() const override { return &template_; }

  std::future<endpoint::GenerateResult> generate(endpoint::GenerateRequest request,
                                                 endpoint::TokenSink) override {
    ++requests;
    endpoint::GenerateResult result;
    result.text = text.value_or(" so " + std::to_string(hash(request.prompt) % 50) + "\n#### " +
                                std::to_string(hash(request.prompt) % 7));
    result.finish = error.empty() ? endpoint::FinishReason::stop : endpoint::FinishReason::error;
    result.error = error;
    return answer(std::move(result));
  }

  std::future<endpoint::ScoreResult> score(endpoint::ScoreRequest request) override {
    ++requests;
    endpoint::ScoreResult result;
    result.error = error;
    std::vector<int32_t> ids = request.context;
    for (const int32_t id : request.continuation) {
      ids.push_back(id);
      const auto value = static_cast<double>(hash(ids) % 1000003) / 100000.0;
      result.tokens.push_back({id, -value, {}});
      result.greedy.push_back(hash(ids) % 5 == 0);
    }
    return answer(std::move(result));
  }

  std::atomic<int> requests = 0;
  std::string error;  // of every answer from now on, when not empty
  std::optional<std::string> text;

 private:
  static uint64_t hash(const std::vector<int32_t>& ids) {
    uint64_t value = 1469598103934665603u;  // FNV-1a
    for (const int32_t id : ids) value = (value ^ static_cast<uint32_t>(id)) * 1099511628211u;
    return value >> 20;
  }

  template <class Result>
  static std::future<Result> answer(Result result) {
    std::promise<Result> promise;
    promise.set_value(std::move(result));
    return promise.get_future();
  }

  endpoint::Info info_;
  text::Tokenizer tokenizer_;
  text::ChatTemplate template_;
};

}  // namespace narrow::evaluate::test
