#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "checkpoint/hub.h"
#include "cli/model_or_endpoint.h"
#include "cli/verbs.h"
#include "similarity/answers.h"
#include "similarity/divergence.h"

namespace narrow::cli {
namespace {

struct Arguments {
  std::string base, text, prompts, output = "compare.json";
  std::vector<std::string> variants;
  EndpointFlags endpoint;
  int64_t windows = 16, window = 512, characters = 0, count = 64, max_tokens = 256;
};

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

Json divergence(const Arguments& arguments, const std::string& variant_name,
                const Globals& globals) {
  const auto backend = ops::make_backend(globals.backend, globals.threads);
  const auto base_model = checkpoint::open(checkpoint::resolve_model(arguments.base));
  const auto variant_model = checkpoint::open(checkpoint::resolve_model(variant_name));
  const auto tokenizer = text::Tokenizer::from_json(base_model->documents().tokenizer,
                                                    base_model->documents().tokenizer_config);
  const auto text = similarity::read_windows(arguments.text, tokenizer, arguments.windows,
                                             arguments.window, arguments.characters);
  model::Decoder base(*base_model, *backend), variant(*variant_model, *backend);
  Progress progress("compare " + variant_name, arguments.windows, "windows");
  std::vector<double> kl, agree, nll_base, nll;
  const auto append = [](const Json& from, std::vector<double>& to) {
    for (const Json& value : from) to.push_back(value.get<double>());
  };
  similarity::measure_divergence(base, variant, text, {}, [&](int64_t, const Json& row) {
    append(row["kl"], kl);
    append(row["top1_agree"], agree);
    append(row["nll_base"], nll_base);
    append(row["nll"], nll);
    progress.advance();
  });
  std::vector<double> sorted = kl;
  std::sort(sorted.begin(), sorted.end());
  return {{"text", arguments.text},
          {"predictions", kl.size()},
          {"mean_kl", mean(kl)},
          {"p99_kl", sorted[static_cast<size_t>(0.99 * static_cast<double>(sorted.size() - 1))]},
          {"top1_agreement", mean(agree)},
          {"perplexity_base", std::exp(mean(nll_base))},
          {"perplexity", std::exp(mean(nll))}};
}

std::vector<similarity::Answer> answers(const std::string& model, const Arguments& arguments,
                                        const std::vector<similarity::TextPrompt>& prompts,
                                        const Globals& globals) {
  // The name of the served model stands among the variants.
  const bool served = arguments.endpoint.used() && model == arguments.endpoint.model;
  const auto opened =
      open_model_or_endpoint(served ? "" : model, served ? arguments.endpoint : EndpointFlags{},
                             globals, {.token_ids = true});
  endpoint::Endpoint& engine = *opened;
  Progress progress("answers of " + model, static_cast<int64_t>(prompts.size()), "prompts");
  std::vector<similarity::Answer> list(prompts.size());
  similarity::generate_answers(engine, prompts, arguments.max_tokens, {},
                               [&](int64_t index, similarity::Answer answer) {
                                 list[static_cast<size_t>(index)] = std::move(answer);
                                 progress.advance();
                               });
  return list;
}

void print(const std::string& variant, const Json& result) {
  if (result.contains("divergence")) {
    const Json& d = result["divergence"];
    std::cout << fmt::format(
        "{}: KL {:.5f} nats, top-token agreement {:.4f}, perplexity {:.4f} (base {:.4f})\n",
        variant, d["mean_kl"].get<double>(), d["top1_agreement"].get<double>(),
        d["perplexity"].get<double>(), d["perplexity_base"].get<double>());
  }
  if (result.contains("text")) {
    const Json& t = result["text"];
    std::cout << fmt::format("{}: ROUGE-1 {:.3f}, ROUGE-2 {:.3f}, ROUGE-L {:.3f}, {} of {} alike\n",
                             variant, t["rouge1"].get<double>(), t["rouge2"].get<double>(),
                             t["rougeL"].get<double>(), t["identical"].get<int64_t>(),
                             t["prompts"].get<int64_t>());
  }
}

void run(const Arguments& arguments, const Globals& globals) {
  if (arguments.text.empty() && arguments.prompts.empty())
    throw Error::refused("give --text FILE, --prompts FILE or both");
  std::vector<std::string> variants = arguments.variants;
  if (arguments.endpoint.used()) {
    if (!arguments.text.empty())
      throw Error::refused("a server does not give the whole distribution of its next tokens",
                           "--text", "compare its answers (--prompts), or run the model itself");
    if (arguments.base == arguments.endpoint.model)
      throw Error::refused("base and served model have the same name", arguments.base);
    variants.push_back(arguments.endpoint.model);
  }
  if (variants.empty()) throw Error::refused("give a variant, or --endpoint URL --model NAME");
  std::vector<similarity::TextPrompt> prompts;
  std::vector<similarity::Answer> base_answers;
  if (!arguments.prompts.empty()) {
    prompts = similarity::read_prompts(arguments.prompts, arguments.count);
    base_answers = answers(arguments.base, arguments, prompts, globals);
  }
  Json document{{"base", arguments.base}, {"variants", Json::object()}};
  for (const std::string& variant : variants) {
    Json result = Json::object();
    if (!arguments.text.empty()) result["divergence"] = divergence(arguments, variant, globals);
    if (!prompts.empty()) {
      const auto variant_answers = answers(variant, arguments, prompts, globals);
      Json rows = Json::array();
      double sums[3] = {0, 0, 0};
      int64_t identical = 0;
      for (size_t i = 0; i < prompts.size(); ++i) {
        Json row = similarity::compare_answers(prompts[i], base_answers[i], variant_answers[i]);
        sums[0] += row["rouge1"].get<double>();
        sums[1] += row["rouge2"].get<double>();
        sums[2] += row["rougeL"].get<double>();
        identical += row["first_divergence"].is_null();
        rows.push_back(std::move(row));
      }
      const auto n = static_cast<double>(prompts.size());
      result["text"] = {{"prompts", prompts.size()}, {"identical", identical},
                        {"rouge1", sums[0] / n},     {"rouge2", sums[1] / n},
                        {"rougeL", sums[2] / n},     {"rows", rows}};
    }
    if (!globals.json) print(variant, result);
    document["variants"][variant] = std::move(result);
  }
  write_text(arguments.output, document.dump(1) + "\n");
  if (globals.json) std::cout << document.dump(1) << "\n";
}

}  // namespace

void add_compare(CLI::App& app, Globals& globals) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand("compare", "how far variants lie from a base model");
  verb->footer(
      "Examples:\n  narrow compare MODEL out/w8a8 out/w4a16 --text wiki.test.raw --max-chars "
      "60000\n"
      "  narrow compare MODEL out/w4a16 --prompts questions.jsonl --count 50\n"
      "  narrow compare MODEL --endpoint http://HOST:8000 --model NAME --tokenizer MODEL "
      "--prompts questions.jsonl");
  verb->add_option("base", arguments->base, "the model compared with")->required();
  verb->add_option("variants", arguments->variants, "models compared");
  verb->add_option("--text", arguments->text, "a text: KL divergence, agreement, perplexity");
  verb->add_option("--windows", arguments->windows, "windows of the text")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  verb->add_option("--window", arguments->window, "tokens of a window")
      ->capture_default_str()
      ->check(CLI::Range(2, 131072));
  verb->add_option("--max-chars", arguments->characters, "characters of the text; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  verb->add_option("--prompts", arguments->prompts,
                   "JSON lines with id and text: ROUGE of answers");
  verb->add_option("--count", arguments->count, "prompts taken")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  verb->add_option("--max-tokens", arguments->max_tokens, "tokens of an answer")
      ->capture_default_str()
      ->check(CLI::Range(1, 131072));
  verb->add_option("-o,--output", arguments->output, "file of all figures")->capture_default_str();
  add_endpoint_flags(*verb, arguments->endpoint);
  add_globals(*verb, globals);
  verb->callback([arguments, &globals] { run(*arguments, globals); });
}

}  // namespace narrow::cli
