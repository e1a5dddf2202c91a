#include <algorithm>
#include <cmath>
#include <deque>
#include <future>
#include <iostream>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/wait.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/hub.h"
#include "cli/prompts.h"
#include "cli/verbs.h"
#include "engine/engine.h"
#include "similarity/divergence.h"

namespace narrow::cli {
namespace {

struct Arguments {
  std::string model, text_file, prompts_file;
  int64_t window = 512, stride = 0, windows = 0, max_characters = 0, top = 5;
};

using Pending = std::future<endpoint::ScoreResult>;

// `what` names the request in errors.
std::vector<endpoint::TokenLogprob> tokens_of(Pending& pending, const std::string& what) {
  auto result = wait_for(pending);
  if (!result.error.empty()) throw Error::failed(result.error, what);
  return std::move(result.tokens);
}

// Calls take(i, ask(i)) for i of [0, count) in order, with requests for twice as many asked as the
// engine runs at once: it always has the next one.
template <class Ask, class Take>
void in_flight(const endpoint::Endpoint& engine, int64_t count, Ask ask, Take take) {
  std::deque<decltype(ask(0))> asked;
  for (int64_t next = 0, first = 0; first < count; ++first) {
    throw_if_interrupted();
    while (next < std::min(count, first + 2 * engine.info().concurrency))
      asked.push_back(ask(next++));
    take(first, asked.front());
    asked.pop_front();
  }
}

// Log-probability of each token but the first, and the best next ones after the last.
void score_prompts(endpoint::Endpoint& engine, const std::vector<Prompt>& prompts,
                   const Arguments& arguments) {
  Progress progress("score", static_cast<int64_t>(prompts.size()), "prompts");
  struct Asked {
    Pending tokens, next;
  };
  const auto ask = [&](int64_t i) {
    const Prompt& prompt = prompts[static_cast<size_t>(i)];
    Asked asked;
    asked.tokens =
        engine.score({prompt.id, {prompt.ids.front()}, {prompt.ids.begin() + 1, prompt.ids.end()}});
    // Of any token that comes next, with the best ones beside it.
    if (arguments.top > 0) asked.next = engine.score({prompt.id, prompt.ids, {0}, arguments.top});
    return asked;
  };
  in_flight(engine, static_cast<int64_t>(prompts.size()), ask, [&](int64_t i, Asked& asked) {
    const Prompt& prompt = prompts[static_cast<size_t>(i)];
    Json logprobs = Json::array(), top = Json::array();
    for (const auto& token : tokens_of(asked.tokens, "prompt " + prompt.id))
      logprobs.push_back(token.logprob);
    if (arguments.top > 0) top = tokens_of(asked.next, "prompt " + prompt.id).at(0).top;
    std::cout << to_line({{"id", prompt.id},
                          {"token_ids", prompt.ids},
                          {"logprobs", std::move(logprobs)},
                          {"top", std::move(top)}})
              << std::endl;
    progress.advance();
  });
}

void score_text(endpoint::Endpoint& engine, const Arguments& arguments, const Globals& globals) {
  const auto ids = engine.tokenizer().encode(
      similarity::read_characters(arguments.text_file, arguments.max_characters), {});
  const auto total = static_cast<int64_t>(ids.size());
  const int64_t stride = arguments.stride > 0 ? arguments.stride : arguments.window;
  if (stride > arguments.window) throw Error::refused("--stride must not exceed --window");
  if (arguments.window > engine.info().score_tokens)
    throw Error::refused(fmt::format("{} tokens exceed the {} that the model scores at once",
                                     arguments.window, engine.info().score_tokens),
                         "--window");
  if (total < arguments.window)
    throw Error::refused("the text has " + std::to_string(total) + " tokens, less than one window");
  int64_t windows = (total - arguments.window) / stride + 1;
  if (arguments.windows > 0) windows = std::min(windows, arguments.windows);
  Progress progress("score", windows, "windows");
  double sum = 0;
  int64_t count = 0;
  Json rows = Json::array();
  const auto ask = [&](int64_t w) {
    const auto begin = ids.begin() + w * stride, end = begin + arguments.window;
    // With overlap only the tokens that no earlier window predicted count.
    const auto fresh = w == 0 ? begin + 1 : std::max(begin + 1, end - stride);
    return engine.score({std::to_string(w), {begin, fresh}, {fresh, end}});
  };
  in_flight(engine, windows, ask, [&](int64_t w, Pending& asked) {
    Json row = Json::array();
    for (const auto& token : tokens_of(asked, "window " + std::to_string(w))) {
      sum -= token.logprob;
      row.push_back(token.logprob);
    }
    count += static_cast<int64_t>(row.size());
    rows.push_back(std::move(row));
    progress.advance();
  });
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

std::vector<Prompt> read_prompts_of(const checkpoint::Documents& documents,
                                    const Arguments& arguments) {
  const auto tokenizer =
      text::Tokenizer::from_json(documents.tokenizer, documents.tokenizer_config);
  std::unique_ptr<text::ChatTemplate> chat;
  if (!documents.chat_template.empty())
    chat = std::make_unique<text::ChatTemplate>(documents.chat_template);
  auto prompts = read_prompts(arguments.prompts_file, tokenizer, chat.get());
  for (const Prompt& prompt : prompts)
    if (prompt.ids.empty()) throw Error::refused("has no tokens", "prompt " + prompt.id);
  return prompts;
}

void run(const Arguments& arguments, const Globals& globals) {
  if (arguments.text_file.empty() == arguments.prompts_file.empty())
    throw Error::refused("give either --text FILE or --prompts FILE");
  auto checkpoint = checkpoint::open(checkpoint::resolve_model(arguments.model));
  engine::Options options{
      .backend = globals.backend, .threads = globals.threads, .kv_dtype = globals.kv_dtype()};
  // The cache has room for the requests that run at once: for contexts of their length, not for the
  // model's.
  options.max_context = arguments.window;
  std::vector<Prompt> prompts;
  if (!arguments.prompts_file.empty()) {
    prompts = read_prompts_of(checkpoint->documents(), arguments);
    options.max_context = 1;
    for (const Prompt& prompt : prompts)
      options.max_context = std::max(options.max_context, static_cast<int64_t>(prompt.ids.size()));
  }
  engine::Engine engine(std::move(checkpoint), options);
  log::info("{} ({}) on {}", arguments.model, engine.info().format, engine.info().backend);
  if (!arguments.prompts_file.empty()) {
    score_prompts(engine, prompts, arguments);
  } else {
    score_text(engine, arguments, globals);
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
