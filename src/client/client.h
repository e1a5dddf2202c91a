// Any OpenAI-compatible server as an Endpoint. A fixed number of threads, each with a connection of
// its own, take requests from a queue; what fails for a reason that may pass is sent again
// (client/retry.h). Calls may come from any thread; the answer to a request that fails for good
// says so in its `error`.
//
// Prompts travel as token ids, so that server and evaluation agree on every token; the tokenizer
// and the chat template are this side's, of the same model. chat() and generate_text() need
// neither.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "client/retry.h"
#include "client/wire.h"
#include "endpoint/endpoint.h"

namespace narrow::client {

struct Options {
  std::string url;    // "http://host:8000", with or without /v1 or the path of a request
  std::string model;  // the name the server knows it by
  std::string api_key;
  int concurrency = 16;                        // requests in flight
  double requests_per_minute = 0;              // 0: as many as the server takes
  std::chrono::milliseconds timeout{600'000};  // of one attempt
  RetryPolicy retry;
  int64_t context_tokens = 0;  // where the server does not say; 0: unknown
};

// What this side knows of the model. Owned by the client.
struct Vocabulary {
  text::Tokenizer tokenizer;
  std::unique_ptr<text::ChatTemplate> chat;  // nullptr: the model has none
};

// Answers of a server asked before work starts.
struct Abilities {
  bool returns_ids = false;         // of generated tokens
  bool texts_only = false;          // takes prompts as text, not as token ids
  std::optional<ScoreWay> scoring;  // none: it cannot, or was not asked
};

class Client : public endpoint::Endpoint {
 public:
  // Connects to nothing yet. Throws Error::refused for a URL, model name or key that cannot be.
  Client(Options options, std::optional<Vocabulary> vocabulary);
  ~Client() override;  // cancels what is in flight

  // What the work will need of the server.
  struct Needs {
    bool token_ids = false;  // prompts by token ids: generate()
    bool scores = false;     // score()
  };
  // Asks the server: is the model there, do our token ids mean the same to it, by which way does
  // it score. Call before the first request. Throws Error::refused, naming what was tried and what
  // came back, when it lacks something; Error::failed when it cannot be reached.
  Abilities prepare(const Needs& needs);

  const endpoint::Info& info() const override;
  // Throws Error::refused when the client has no vocabulary.
  const text::Tokenizer& tokenizer() const override;
  const text::ChatTemplate* chat_template() const override;

  // Sampling::logprobs must be 0: servers do not say which tokens their alternatives are. The sink
  // is called once per token where the server gives ids, otherwise once per piece of text, with
  // id -1. A request that has fed its sink is not sent again. To a server that takes texts only the
  // text of the ids is sent: an error where it does not give them back, or where the server counts
  // other tokens.
  std::future<endpoint::GenerateResult> generate(endpoint::GenerateRequest request,
                                                 endpoint::TokenSink sink = {}) override;
  // REQUIRES: prepare() with `scores`.
  std::future<endpoint::ScoreResult> score(endpoint::ScoreRequest request) override;
  // Through /v1/chat/completions: the server's own template.
  std::future<endpoint::GenerateResult> chat(endpoint::ChatRequest request,
                                             endpoint::TokenSink sink = {}) override;
  // The prompt as text, tokenized by the server. request.prompt is not looked at.
  std::future<endpoint::GenerateResult> generate_text(endpoint::GenerateRequest request,
                                                      std::string prompt,
                                                      endpoint::TokenSink sink = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace narrow::client
