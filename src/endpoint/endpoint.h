// Something that generates and scores: the engine in this process, or any OpenAI-compatible server.
// Evaluation, similarity and load see nothing else. Calls are asynchronous and may come from any
// thread; results are the same whatever else is in flight.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace narrow::endpoint {

using Clock = std::chrono::steady_clock;

struct Sampling {
  int64_t max_tokens = 256;
  int64_t min_tokens = 0;
  double temperature = 0;  // 0: greedy
  double top_p = 1;
  int64_t top_k = 0;  // 0: off
  uint64_t seed = 0;
  std::vector<std::string> stop;  // generation ends before the first of these
  bool ignore_eos = false;        // exactly max_tokens tokens
  int64_t logprobs = 0;           // best alternatives reported per token
};

struct TokenLogprob {
  int32_t id = 0;
  double logprob = 0;                           // natural log
  std::vector<std::pair<int32_t, double>> top;  // best first, when asked for
};

enum class FinishReason { stop, length, cancelled, error };
std::string_view name_of(FinishReason reason);

struct GenerateRequest {
  std::string id;
  std::vector<int32_t> prompt;  // token ids, BOS included where the model wants one
  Sampling sampling;
  std::stop_token cancel = {};
};

struct ChatRequest {
  std::string id;
  Json messages;  // [{"role", "content"}, ...]
  Sampling sampling;
  std::stop_token cancel = {};
};

// Times on the steady clock of this process.
struct Timings {
  Clock::time_point sent;                 // request handed over
  std::vector<Clock::time_point> tokens;  // arrival of each generated token
  Clock::time_point finished;
};

struct GenerateResult {
  std::string id;
  std::string text;  // without the stop string
  std::vector<int32_t> token_ids;
  std::vector<TokenLogprob> logprobs;  // per generated token, when asked for
  FinishReason finish = FinishReason::error;
  std::string error;  // set when finish == error
  // The error is the request's own, which a model here cannot take (too long for its context, say)
  // however often it is asked. Of a server's errors that is not known.
  bool refused = false;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt, found in the prefix cache
  Timings timings;
};

// Called from the endpoint's thread for each generated token; `text` may be empty while a
// character is incomplete.
using TokenSink = std::function<void(int32_t id, std::string_view text)>;

struct ScoreRequest {
  std::string id;
  std::vector<int32_t> context;       // may be empty only if the model defines no BOS to stand in
  std::vector<int32_t> continuation;  // scored tokens
  int64_t top = 0;                    // best alternatives per scored token
};

struct ScoreResult {
  std::string id;
  std::vector<TokenLogprob> tokens;  // one per continuation token
  std::vector<bool> greedy;          // token is the argmax at its position
  std::string error;                 // empty on success

  double sum() const;       // log-likelihood of the continuation
  bool all_greedy() const;  // the continuation is what greedy decoding gives
};

struct Info {
  std::string model;    // as the user named it
  std::string format;   // "bf16", "w8a8-fp", ...
  std::string backend;  // "cpu: AVX2, 2 threads", "http://..."
  int64_t context_tokens = 0;
  int64_t concurrency = 1;  // requests that run at once; more of them wait
  // What a reader of results must know of how a format runs here (ops/backend.h), by its name.
  std::map<std::string, std::string> format_notes = {};
  // Context and continuation of a ScoreRequest together; 0: as context_tokens.
  int64_t score_tokens = 0;
};

class Endpoint {
 public:
  virtual ~Endpoint() = default;
  virtual const Info& info() const = 0;
  // Of the model files, which are read for it when it is first asked for; empty for a server.
  virtual std::string fingerprint() const { return {}; }
  virtual const text::Tokenizer& tokenizer() const = 0;
  // nullptr when the model has none.
  virtual const text::ChatTemplate* chat_template() const = 0;
  // What ended it, so that no request is answered any more; empty while it works, and for a server.
  virtual std::string failure() const { return {}; }

  // The futures never hold an exception for what concerns one request: see `error`.
  virtual std::future<GenerateResult> generate(GenerateRequest request, TokenSink sink = {}) = 0;
  virtual std::future<ScoreResult> score(ScoreRequest request) = 0;
  // The answer to a conversation, through the chat template of the model. Throws Error::refused
  // when it has none.
  virtual std::future<GenerateResult> chat(ChatRequest request, TokenSink sink = {});
};

// Ids of a chat with the template of the model. Throws Error::refused when it has none.
std::vector<int32_t> encode_chat(const Endpoint& endpoint, const Json& messages,
                                 bool add_generation_prompt = true);
std::vector<int32_t> encode_chat(const text::Tokenizer& tokenizer, const text::ChatTemplate& chat,
                                 const Json& messages, bool add_generation_prompt = true);

}  // namespace narrow::endpoint
