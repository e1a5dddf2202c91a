// A text of any length, scored whole: windows of the model's context as lm-evaluation-harness's
// `loglikelihood_rolling` cuts them, and what its metrics make of the sum. Pure but for the
// endpoint's tokenizer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "endpoint/endpoint.h"

namespace narrow::evaluate {

// Requests that score each token once, `length` of them at most in each. The first window begins
// behind `prefix`; one in the middle has the token before it as context; the last one, which may be
// shorter, as many as there is room for.
// REQUIRES: length > 0.
std::vector<endpoint::ScoreRequest> rolling_windows(const std::vector<int32_t>& tokens,
                                                    int32_t prefix, int64_t length);

// The windows of a text: its tokens as the tokenizer encodes it, special ones too (as the
// harness's Hugging Face models do: BOS is scored where the tokenizer adds it), behind BOS, or EOS
// where there is none. As long as the endpoint takes them; 2048 tokens where that is unknown.
// Throws Error::refused for a tokenizer with neither token.
std::vector<endpoint::ScoreRequest> rolling_requests(const endpoint::Endpoint& endpoint,
                                                     const std::string& text);

// Parts of a text at runs of Unicode's white space, empty ones at its ends included.
int64_t count_words(const std::string& text);

struct RollingMetric {
  const char* name;
  bool of_words;                 // otherwise of bytes
  double (*score)(double mean);  // of the log-likelihood of a word (byte)
};
const std::vector<RollingMetric>& rolling_metrics();
// nullptr: there is none of this name.
const RollingMetric* find_rolling_metric(const std::string& name);

}  // namespace narrow::evaluate
