// One request on its way through the engine.
#pragma once

#include <future>
#include <optional>
#include <variant>

#include "endpoint/endpoint.h"
#include "engine/block_pool.h"

namespace narrow::engine {

struct Generation {
  endpoint::GenerateRequest request;
  endpoint::TokenSink sink;
  std::promise<endpoint::GenerateResult> promise;
  endpoint::GenerateResult result;
  text::StreamDecoder decoder;
  size_t streamed = 0;  // bytes of result.text the sink has seen
};

struct Scoring {
  endpoint::ScoreRequest request;
  std::promise<endpoint::ScoreResult> promise;
  endpoint::ScoreResult result;
};

struct Sequence {
  std::variant<Generation, Scoring> work;
  std::vector<int32_t> tokens = {};  // prompt and what was generated, or context and continuation
  int64_t computed = 0;  // tokens whose keys and values are in the cache once all steps have run
  // Tokens that steps under way choose and that are not in `tokens` yet, and the row of the last
  // step's logits that chooses the last of them.
  int64_t pending = 0;
  int32_t source = -1;
  bool done = false;   // generation is complete
  bool ended = false;  // the result is out; a step may still compute a row of it
  std::vector<int32_t> blocks = {};
  std::vector<BlockHash> hashes = {};  // of the full blocks of `tokens`, as far as known
  int64_t published = 0;               // full blocks made known to the pool
  int64_t arrival = 0;

  Generation* generation() { return std::get_if<Generation>(&work); }
  Scoring* scoring() { return std::get_if<Scoring>(&work); }

  // With the pending ones that it goes on from: the last of max_tokens is not.
  int64_t known_tokens();
  // Position of the first token whose logits are needed: everything from here on must be computed,
  // cached or not.
  int64_t first_needed();
  // Position before which rows can be computed now. The last token of a continuation is scored, not
  // continued from.
  int64_t target();
  int64_t alternatives();  // best tokens reported beside each of its own
  // Whether its logits are to be seen by the host: a summary has not so many of the best tokens.
  bool wants_logits();
};

// Appends a generated token: text, stop strings, end of sequence, limits. Returns true when the
// request is finished; its result is complete then but for the times.
bool accept_token(Generation& generation, int32_t id, const std::vector<int32_t>& eos_ids);

}  // namespace narrow::engine
