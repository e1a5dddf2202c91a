#include "evaluate/rolling.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "evaluate/python_text.h"
#include "text/utf8.h"

namespace narrow::evaluate {
namespace {

// What the harness takes for the context of a server that names none.
constexpr int64_t kUnknownContext = 2048;

double perplexity(double mean) { return std::exp(-mean); }
double bits(double mean) { return -mean / std::log(2.0); }

}  // namespace

std::vector<endpoint::ScoreRequest> rolling_windows(const std::vector<int32_t>& tokens,
                                                    int32_t prefix, int64_t length) {
  const auto all = static_cast<int64_t>(tokens.size());
  std::vector<endpoint::ScoreRequest> windows;
  for (int64_t begin = 0; begin < all;) {
    const int64_t end = std::min(all, begin + length);
    endpoint::ScoreRequest window;
    if (begin == 0) {
      window.context = {prefix};
    } else {
      window.context.assign(tokens.begin() + (end - length - 1), tokens.begin() + begin);
    }
    window.continuation.assign(tokens.begin() + begin, tokens.begin() + end);
    windows.push_back(std::move(window));
    begin = end;
  }
  return windows;
}

std::vector<endpoint::ScoreRequest> rolling_requests(const endpoint::Endpoint& endpoint,
                                                     const std::string& text) {
  const text::Tokenizer& tokenizer = endpoint.tokenizer();
  const auto prefix = tokenizer.bos_id() ? tokenizer.bos_id() : tokenizer.eos_id();
  if (!prefix)
    throw Error::refused("nothing stands before a text: the tokenizer has neither BOS nor EOS",
                         endpoint.info().model);
  const endpoint::Info& info = endpoint.info();
  const int64_t room = info.score_tokens > 0     ? info.score_tokens
                       : info.context_tokens > 0 ? info.context_tokens
                                                 : kUnknownContext;
  const bool begun = text.starts_with(tokenizer.token_bytes(*prefix));
  const auto tokens = tokenizer.encode(text, {.add_special = !begun, .parse_special = true});
  return rolling_windows(tokens, *prefix, std::max<int64_t>(1, room - 1));
}

int64_t count_words(const std::string& text) {
  int64_t words = 1;
  bool blank = false;
  for (const uint32_t code : python::code_points(text::repair(text))) {
    words += !blank && python::is_space(code);
    blank = python::is_space(code);
  }
  return words;
}

const std::vector<RollingMetric>& rolling_metrics() {
  static const std::vector<RollingMetric> metrics{{"word_perplexity", true, perplexity},
                                                  {"byte_perplexity", false, perplexity},
                                                  {"bits_per_byte", false, bits}};
  return metrics;
}

const RollingMetric* find_rolling_metric(const std::string& name) {
  for (const RollingMetric& metric : rolling_metrics())
    if (name == metric.name) return &metric;
  return nullptr;
}

}  // namespace narrow::evaluate
