#include "engine/sequence.h"

#include <algorithm>

#include "engine/sampler.h"

namespace narrow::engine {
namespace {

// Length of the longest end of `text` that is the beginning of a stop string: not to be shown yet.
size_t held_back(const std::string& text, const std::vector<std::string>& stops) {
  size_t held = 0;
  for (const std::string& stop : stops) {
    for (size_t length = std::min(stop.size() - 1, text.size()); length > held; --length) {
      if (text.compare(text.size() - length, length, stop, 0, length) == 0) {
        held = length;
        break;
      }
    }
  }
  return held;
}

}  // namespace

int64_t Sequence::known_tokens() {
  const auto count = static_cast<int64_t>(tokens.size());
  const Generation* generated = generation();
  if (!generated || pending == 0) return count;
  const auto chosen = static_cast<int64_t>(generated->result.token_ids.size()) + pending;
  return chosen < generated->request.sampling.max_tokens ? count + pending : count;
}

int64_t Sequence::first_needed() {
  if (Scoring* scored = scoring()) return static_cast<int64_t>(scored->request.context.size()) - 1;
  return known_tokens() - 1;
}

int64_t Sequence::target() { return scoring() ? known_tokens() - 1 : known_tokens(); }

int64_t Sequence::alternatives() {
  if (Scoring* scored = scoring()) return scored->request.top;
  return generation()->request.sampling.logprobs;
}

bool Sequence::wants_logits() { return !fit_summary(alternatives()); }

bool accept_token(Generation& generation, int32_t id, const std::vector<int32_t>& eos_ids) {
  const endpoint::Sampling& sampling = generation.request.sampling;
  endpoint::GenerateResult& result = generation.result;
  const auto count = static_cast<int64_t>(result.token_ids.size()) + 1;
  const bool end = !sampling.ignore_eos && count > sampling.min_tokens &&
                   std::find(eos_ids.begin(), eos_ids.end(), id) != eos_ids.end();
  result.token_ids.push_back(id);
  bool finished = end;
  if (end) result.finish = endpoint::FinishReason::stop;
  const size_t before = result.text.size();
  if (!end) result.text += generation.decoder.push(id);
  if (!finished && count >= sampling.max_tokens) {
    result.finish = endpoint::FinishReason::length;
    result.text += generation.decoder.finish();
    finished = true;
  }
  size_t longest = 0;
  for (const std::string& stop : sampling.stop) longest = std::max(longest, stop.size());
  const size_t from = before > longest ? before - longest : 0;
  size_t cut = std::string::npos;
  for (const std::string& stop : sampling.stop) cut = std::min(cut, result.text.find(stop, from));
  if (cut != std::string::npos) {
    result.text.resize(cut);
    result.finish = endpoint::FinishReason::stop;
    finished = true;
  }
  const size_t held = finished ? 0 : held_back(result.text, sampling.stop);
  const size_t visible = result.text.size() - held;
  if (generation.sink) {
    const size_t begin = std::min(generation.streamed, visible);
    generation.sink(id, std::string_view(result.text).substr(begin, visible - begin));
  }
  generation.streamed = std::max(generation.streamed, visible);
  return finished;
}

}  // namespace narrow::engine
