#include <cstdio>
#include <iostream>

#include "base/error.h"
#include "base/log.h"
#include "base/wait.h"
#include "cli/model_or_endpoint.h"
#include "cli/prompts.h"
#include "cli/verbs.h"

namespace narrow::cli {
namespace {

struct Arguments {
  std::string model, prompt, prompts_file;
  EndpointFlags endpoint;
  bool chat = false;
  endpoint::Sampling sampling;
};

Json result_row(const endpoint::GenerateResult& result, bool with_logprobs) {
  Json row{{"id", result.id},
           {"token_ids", result.token_ids},
           {"text", result.text},
           {"finish_reason", endpoint::name_of(result.finish)}};
  if (!result.error.empty()) row["error"] = result.error;
  if (with_logprobs) {
    Json logprobs = Json::array();
    for (const auto& token : result.logprobs)
      logprobs.push_back({{"id", token.id}, {"logprob", token.logprob}, {"top", token.top}});
    row["logprobs"] = std::move(logprobs);
  }
  return row;
}

void print_piece(int32_t, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

// One prompt, given to a server as text: its own tokenizer and chat template read it.
void ask(const Arguments& arguments, const Globals& globals) {
  const auto client = open_client(arguments.endpoint, {});
  endpoint::Sampling sampling = arguments.sampling;
  sampling.seed = globals.seed;
  endpoint::TokenSink sink;
  if (!globals.json) sink = print_piece;
  auto future =
      arguments.chat
          ? client->chat({"0", {{{"role", "user"}, {"content", arguments.prompt}}}, sampling, {}},
                         sink)
          : client->generate_text({"0", {}, sampling, {}}, arguments.prompt, sink);
  const auto result = wait_for(future);
  std::cout << (globals.json ? to_line(result_row(result, false)) : "") << "\n";
  if (!result.error.empty()) throw Error::failed(result.error);
}

void run(const Arguments& arguments, const Globals& globals) {
  if (arguments.prompt.empty() == arguments.prompts_file.empty())
    throw Error::refused("give either -p TEXT or --prompts FILE");
  if (arguments.endpoint.used() && arguments.sampling.logprobs > 0)
    throw Error::refused("a server does not say which tokens its log-probabilities belong to",
                         "--logprobs", "run the model itself");
  if (arguments.endpoint.used() && arguments.prompts_file.empty()) return ask(arguments, globals);
  const auto opened =
      open_model_or_endpoint(arguments.model, arguments.endpoint, globals, {.token_ids = true});
  endpoint::Endpoint& engine = *opened;
  log::info("{} ({}) on {}", engine.info().model, engine.info().format, engine.info().backend);
  std::vector<Prompt> prompts;
  if (!arguments.prompts_file.empty()) {
    prompts = read_prompts(arguments.prompts_file, engine.tokenizer(), engine.chat_template());
  } else if (arguments.chat) {
    prompts.push_back(encode_messages(engine.tokenizer(), engine.chat_template(),
                                      {{{"role", "user"}, {"content", arguments.prompt}}}, true));
  } else {
    prompts.push_back({"0", engine.tokenizer().encode(arguments.prompt, {.add_special = true}),
                       arguments.prompt});
  }
  const bool as_rows = !arguments.prompts_file.empty() || globals.json;
  std::vector<std::future<endpoint::GenerateResult>> futures;
  for (const Prompt& prompt : prompts) {
    endpoint::GenerateRequest request{prompt.id, prompt.ids, arguments.sampling, {}};
    request.sampling.seed = globals.seed;
    endpoint::TokenSink sink;
    if (!as_rows) sink = print_piece;
    futures.push_back(engine.generate(std::move(request), sink));
  }
  bool failed = false;
  for (auto& future : futures) {
    throw_if_interrupted();
    const auto result = wait_for(future);
    failed = failed || result.finish == endpoint::FinishReason::error;
    if (as_rows) {
      std::cout << to_line(result_row(result, arguments.sampling.logprobs > 0)) << "\n";
    } else {
      std::cout << "\n";
      if (!result.error.empty()) throw Error::failed(result.error);
    }
  }
  if (failed) throw Error::failed("some prompts could not be answered; their rows say why");
}

}  // namespace

void add_generate(CLI::App& app, Globals& globals) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand("generate", "continue a prompt");
  verb->footer(
      "Examples:\n  narrow generate MODEL -p 'Once upon a time' --max-tokens 50\n"
      "  narrow generate MODEL --chat -p 'What is 2 + 2?'\n"
      "  narrow generate MODEL --prompts prompts.jsonl > answers.jsonl\n"
      "  narrow generate --endpoint http://HOST:8000 --model NAME --chat -p 'What is 2 + 2?'");
  verb->add_option("model", arguments->model, "directory, .gguf file or hub name");
  verb->add_option("-p,--prompt", arguments->prompt, "the prompt");
  verb->add_option("--prompts", arguments->prompts_file,
                   "JSON lines with id and one of text, token_ids, messages");
  verb->add_flag("--chat", arguments->chat, "put the prompt through the chat template");
  endpoint::Sampling& sampling = arguments->sampling;
  verb->add_option("--max-tokens", sampling.max_tokens, "tokens to generate at most")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  verb->add_option("--temperature", sampling.temperature, "0: greedy")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 100.0));
  verb->add_option("--top-p", sampling.top_p, "share of the probability kept")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  verb->add_option("--top-k", sampling.top_k, "candidates kept; 0: all")
      ->check(CLI::Range(0, 1 << 30));
  verb->add_option("--stop", sampling.stop, "text before which generation ends");
  verb->add_option("--logprobs", sampling.logprobs, "alternatives to report per token")
      ->check(CLI::Range(0, 1000));
  verb->add_flag("--ignore-eos", sampling.ignore_eos, "go on past the end of the text");
  add_endpoint_flags(*verb, arguments->endpoint);
  add_globals(*verb, globals);
  add_kv_cache_flag(*verb, globals);
  verb->callback([arguments, &globals] { run(*arguments, globals); });
}

}  // namespace narrow::cli
