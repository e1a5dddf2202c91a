#include <algorithm>
#include <cmath>
#include <iostream>

#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "checkpoint/hub.h"
#include "cli/prompts.h"
#include "cli/verbs.h"
#include "engine/sampler.h"
#include "model/decoder.h"
#include "ops/logits.h"
#include "similarity/divergence.h"

namespace narrow::cli {
namespace {

struct Arguments {
  std::string model, text_file, prompts_file;
  int64_t window = 512, stride = 0, windows = 0, max_characters = 0, top = 5;
};

// Log-probability of each next token, and the best next tokens after the last.
struct Scores {
  std::vector<double> logprobs;
  std::vector<std::pair<int32_t, double>> top;
};

Scores score(model::Decoder& decoder, std::span<const int32_t> ids, int64_t top,
             std::optional<DType> kv_dtype) {
  Scores scores;
  const auto take = [&](int64_t first, View<const float> logits) {
    for (int64_t r = 0; r < logits.rows; ++r) {
      const auto next = static_cast<size_t>(first + r + 1);
      const double normalizer = ops::log_sum_exp(logits.row(r));
      if (next < ids.size()) {
        scores.logprobs.push_back(logits(r, ids[next]) - normalizer);
      } else if (top > 0) {
        scores.top = engine::best(logits.row(r), top, normalizer);
      }
    }
  };
  model::for_each_logits(decoder, ids, take, kv_dtype);
  return scores;
}

void score_prompts(model::Decoder& decoder, const text::Tokenizer& tokenizer,
                   const text::ChatTemplate* chat, const Arguments& arguments,
                   std::optional<DType> kv_dtype) {
  const auto prompts = read_prompts(arguments.prompts_file, tokenizer, chat);
  Progress progress("score", static_cast<int64_t>(prompts.size()), "prompts");
  for (const Prompt& prompt : prompts) {
    if (prompt.ids.empty()) throw Error::refused("has no tokens", "prompt " + prompt.id);
    const Scores scores = score(decoder, prompt.ids, arguments.top, kv_dtype);
    std::cout << to_line({{"id", prompt.id},
                          {"token_ids", prompt.ids},
                          {"logprobs", scores.logprobs},
                          {"top", scores.top}})
              << std::endl;
    progress.advance();
  }
}

void score_text(model::Decoder& decoder, const text::Tokenizer& tokenizer,
                const Arguments& arguments, const Globals& globals) {
  const auto ids = tokenizer.encode(
      similarity::read_characters(arguments.text_file, arguments.max_characters), {});
  const auto total = static_cast<int64_t>(ids.size());
  const int64_t stride = arguments.stride > 0 ? arguments.stride : arguments.window;
  if (stride > arguments.window) throw Error::refused("--stride must not exceed --window");
  if (total < arguments.window)
    throw Error::refused("the text has " + std::to_string(total) + " tokens, less than one window");
  int64_t windows = (total - arguments.window) / stride + 1;
  if (arguments.windows > 0) windows = std::min(windows, arguments.windows);
  Progress progress("score", windows, "windows");
  double sum = 0;
  int64_t count = 0;
  Json rows = Json::array();
  for (int64_t w = 0; w < windows; ++w) {
    const std::span<const int32_t> window(ids.data() + w * stride,
                                          static_cast<size_t>(arguments.window));
    Scores scores = score(decoder, window, 0, globals.kv_dtype());
    // With overlap only the tokens that no earlier window predicted count.
    const int64_t fresh = w == 0 ? arguments.window - 1 : stride;
    scores.logprobs.erase(scores.logprobs.begin(),
                          scores.logprobs.end() - std::min(fresh, arguments.window - 1));
    for (double logprob : scores.logprobs) sum -= logprob;
    count += static_cast<int64_t>(scores.logprobs.size());
    rows.push_back(scores.logprobs);
    progress.advance();
  }
  const double perplexity = std::exp(sum / static_cast<double>(count));
  if (globals.json) {
    std::cout << to_line({{"perplexity", perplexity},
                          {"predictions", count},
                          {"windows", windows},
                          {"window", arguments.window},
                          {"stride", stride},
                          {"logprobs", rows}})
              << "\n";
  } else {
    std::cout << fmt::format("perplexity {:.4f} over {} predictions in {} windows of {} tokens\n",
                             perplexity, count, windows, arguments.window);
  }
}

void run(const Arguments& arguments, const Globals& globals) {
  if (arguments.text_file.empty() == arguments.prompts_file.empty())
    throw Error::refused("give either --text FILE or --prompts FILE");
  const auto backend = ops::make_backend(globals.backend, globals.threads);
  const auto checkpoint = checkpoint::open(checkpoint::resolve_model(arguments.model));
  const auto& documents = checkpoint->documents();
  const auto tokenizer =
      text::Tokenizer::from_json(documents.tokenizer, documents.tokenizer_config);
  std::unique_ptr<text::ChatTemplate> chat;
  if (!documents.chat_template.empty())
    chat = std::make_unique<text::ChatTemplate>(documents.chat_template);
  model::Decoder decoder(*checkpoint, *backend);
  log::info("{} ({}) on {}", arguments.model, checkpoint->format(), backend->describe());
  if (!arguments.prompts_file.empty()) {
    score_prompts(decoder, tokenizer, chat.get(), arguments, globals.kv_dtype());
  } else {
    score_text(decoder, tokenizer, arguments, globals);
  }
}

}  // namespace

void add_score(CLI::App& app, Globals& globals) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand("score", "perplexity and log-probabilities of given text");
  verb->footer(
      "Examples:\n  narrow score MODEL --text wiki.test.raw --max-chars 60000 --windows 16\n"
      "  narrow score MODEL --prompts prompts.jsonl --top 5 > scores.jsonl");
  verb->add_option("model", arguments->model, "directory, .gguf file or hub name")->required();
  verb->add_option("--text", arguments->text_file, "a text file, scored window by window");
  verb->add_option("--prompts", arguments->prompts_file,
                   "JSON lines with id and one of text, token_ids, messages");
  verb->add_option("--window", arguments->window, "tokens of a window")
      ->capture_default_str()
      ->check(CLI::Range(2, 1 << 20));
  verb->add_option("--stride", arguments->stride, "tokens from window to window; 0: no overlap")
      ->check(CLI::Range(0, 1 << 20));
  verb->add_option("--windows", arguments->windows, "windows at most; 0: all")
      ->check(CLI::Range(0, 1 << 30));
  verb->add_option("--max-chars", arguments->max_characters, "characters of the text; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  verb->add_option("--top", arguments->top, "best next tokens after each prompt")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000));
  add_globals(*verb, globals);
  add_kv_cache_flag(*verb, globals);
  verb->callback([arguments, &globals] { run(*arguments, globals); });
}

}  // namespace narrow::cli
