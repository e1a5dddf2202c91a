// What is said to an OpenAI-compatible server and what is read from its answers: /v1/completions
// and /v1/chat/completions, their streams, and the two ways servers give log-probabilities of a
// prompt. Nothing here is connected; answers are untrusted and Error::failed names what is wrong
// with them.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "endpoint/endpoint.h"

namespace narrow::client {

// How a server scores a prompt of token ids.
enum class ScoreWay {
  // "prompt_logprobs": a list of maps from token id to log-probability and rank (vLLM). The only
  // way that names ids, so that it also gives alternatives.
  prompt_logprobs,
  // "echo" and "logprobs" with "max_tokens": 0, as OpenAI once did.
  echo,
  // The same with one generated token behind the prompt, as lm-evaluation-harness asks.
  echo_and_one,
};
std::string_view name_of(ScoreWay way);

// prompt: a text or token ids. Streamed, with usage at the end. return_ids asks for the ids of
// generated tokens ("return_token_ids", vLLM 0.10.2).
Json completion_body(const std::string& model, Json prompt, const endpoint::Sampling& sampling,
                     bool return_ids);
Json chat_body(const std::string& model, const Json& messages, const endpoint::Sampling& sampling);
// top: alternatives asked for.
Json score_body(const std::string& model, std::span<const int32_t> ids, int64_t top, ScoreWay way);

// Bytes an honest answer about so many tokens stays below: 4 KiB a token, which a hundred
// alternatives fit into, and 1 MiB.
int64_t answer_limit_bytes(int64_t tokens);

// Log-probabilities of ids[context, ids.size()). Throws Error::failed unless the answer is about
// exactly these ids: its lengths, its token count and, by prompt_logprobs, the ids themselves.
endpoint::ScoreResult read_scores(const Json& answer, ScoreWay way, std::span<const int32_t> ids,
                                  size_t context, int64_t top, const std::string& where);

// True when the texts of the echoed tokens are those of `ids`, in any spelling servers use: the
// text, the vocabulary's own form ("Ġthe", "▁the") or "token_id:123".
bool echo_lines_up(const Json& answer, std::span<const int32_t> ids,
                   const text::Tokenizer& tokenizer);

// Message of a refusal, made safe for a terminal: "error.message" where the body has it.
std::string refusal_text(std::string_view body);

// Strings at which a server ends an answer: the API allows four, and vLLM refuses more.
inline constexpr size_t kMostStops = 4;

// Collects the events of one streamed answer. Not to be shared between threads.
class GenerationReader {
 public:
  // stops: those of the request; behind the first kMostStops, which the server knows, the answer is
  // cut here. A sink may have been fed the beginning of such a one.
  GenerationReader(bool chat, int64_t max_tokens, endpoint::TokenSink sink, std::string where,
                   std::span<const std::string> stops = {});

  // data of one event, arrived at `now`. Throws Error::failed for what breaks the protocol, for an
  // error the server reports in the stream and for more tokens than were asked for.
  void event(std::string_view data, endpoint::Clock::time_point now);

  // A finish reason or "[DONE]" has come; without either the answer was cut off.
  bool complete() const { return finished_ || done_; }
  bool started() const { return !chunks_.empty(); }
  // A stop that the server does not know has come: the rest of the stream is not looked at.
  bool cut() const { return cut_; }

  // REQUIRES: complete(). A chunk with k tokens counts as k arrivals, evenly spread since the chunk
  // before. Ids are the server's; where it gives none, those of the text under `tokenizer`
  // (nullptr: none), which may cut it elsewhere.
  endpoint::GenerateResult result(const text::Tokenizer* tokenizer) const;

 private:
  struct Chunk {
    endpoint::Clock::time_point arrived;
    int64_t tokens = 0;  // 0: the server does not say
  };
  void usage(const Json& usage);
  std::string up_to_stop(const std::string& piece);  // sets cut_

  const bool chat_;
  const int64_t max_tokens_;
  const endpoint::TokenSink sink_;
  const std::string where_;
  const std::vector<std::string> stops_;  // those the server does not know
  std::string text_;
  std::vector<int32_t> ids_;
  std::vector<Chunk> chunks_;
  std::optional<int64_t> prompt_tokens_, completion_tokens_;
  int64_t cached_tokens_ = 0;
  bool finished_ = false, done_ = false, cut_ = false;
  endpoint::FinishReason finish_ = endpoint::FinishReason::stop;
};

}  // namespace narrow::client
