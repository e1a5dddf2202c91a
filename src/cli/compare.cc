#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "checkpoint/hub.h"
#include "cli/model_or_endpoint.h"
#include "cli/verbs.h"
#include "similarity/answers.h"
#include "similarity/divergence.h"
#include "similarity/side_by_side.h"

namespace narrow::cli {
namespace {

struct Arguments {
  std::string base, text, prompts, encoder, output = "compare.json";
  std::vector<std::string> variants;
  EndpointFlags endpoint;
  int64_t windows = 16, window = 512, characters = 0, count = 64, max_tokens = 256, layer = -1;
  bool idf = false;
  bool show = false, flips = false, diverged = false;
  std::string task;
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
  similarity::measure_divergence(base, variant, /*kv_dtype=*/{}, text, {},
                                 [&](int64_t, const Json& row) {
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

std::unique_ptr<similarity::AnswerEncoder> load_encoder(const Arguments& arguments,
                                                        const Globals& globals) {
  if (arguments.encoder.empty()) {
    if (arguments.layer >= 0 || arguments.idf)
      throw Error::refused("--bertscore-layer and --idf are of --encoder, which is not given");
    return nullptr;
  }
  if (arguments.prompts.empty())
    throw Error::refused("--encoder compares answers: give --prompts FILE as well");
  similarity::AnswerEncoder::Options options;
  if (arguments.layer >= 0) options.layer = arguments.layer;
  options.idf = arguments.idf;
  return std::make_unique<similarity::AnswerEncoder>(checkpoint::resolve_model(arguments.encoder),
                                                     globals.backend, globals.threads, options);
}

// Rows of all prompts and the means over them.
Json compare_texts(const std::vector<similarity::TextPrompt>& prompts,
                   const std::vector<similarity::Answer>& base,
                   const std::vector<similarity::Answer>& variant,
                   similarity::AnswerEncoder* encoder) {
  Json rows = Json::array();
  int64_t identical = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    rows.push_back(similarity::compare_answers(prompts[i], base[i], variant[i], encoder));
    identical += rows.back()["first_divergence"].is_null();
  }
  Json result{{"prompts", prompts.size()}, {"identical", identical}};
  for (const char* name : {"rouge1", "rouge2", "rougeL", "sts", "bertscore_precision",
                           "bertscore_recall", "bertscore_f1"}) {
    std::vector<double> values;
    for (const Json& row : rows)
      if (row.contains(name) && row[name].is_number()) values.push_back(row[name].get<double>());
    if (!values.empty()) result[name] = mean(values);
  }
  if (encoder) result["encoder"] = encoder->key();
  result["rows"] = std::move(rows);
  return result;
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
    std::string meaning;
    if (t.contains("encoder"))
      meaning = fmt::format(", STS {:.3f}, BERTScore {:.3f} (layer {})", t["sts"].get<double>(),
                            t["bertscore_f1"].get<double>(),
                            t["encoder"]["bertscore_layer"].get<int64_t>());
    std::cout << fmt::format(
        "{}: ROUGE-1 {:.3f}, ROUGE-2 {:.3f}, ROUGE-L {:.3f}{}, {} of {} alike\n", variant,
        t["rouge1"].get<double>(), t["rouge2"].get<double>(), t["rougeL"].get<double>(), meaning,
        t["identical"].get<int64_t>(), t["prompts"].get<int64_t>());
  }
}

// Stored samples of two folders of narrow eval, to be read side by side.
void show(const Arguments& arguments, const Globals& globals) {
  if (arguments.variants.size() != 1)
    throw Error::refused("--show puts two folders of results side by side: give one variant");
  const std::string& variant = arguments.variants.front();
  const auto samples = similarity::pair_samples(arguments.base, variant, arguments.task);
  int64_t shown = 0, lost = 0, gained = 0, diverged = 0;
  for (const similarity::SamplePair& pair : samples.pairs) {
    lost += pair.lost();
    gained += pair.gained();
    diverged += pair.diverged();
    if (arguments.flips && !pair.lost() && !pair.gained()) continue;
    if (arguments.diverged && !pair.diverged()) continue;
    ++shown;
    if (globals.json) {
      std::cout << to_line(similarity::to_json(pair)) << "\n";
    } else {
      std::cout << similarity::to_text(pair, arguments.base, variant);
    }
  }
  log::info("{} of {} documents shown: {} lost, {} gained, {} answers differ", shown,
            samples.pairs.size(), lost, gained, diverged);
  if (samples.only_base > 0 || samples.only_variant > 0)
    log::warning("left out: {} documents that only {} has, {} that only {} has", samples.only_base,
                 arguments.base, samples.only_variant, variant);
}

void run(const Arguments& arguments, const Globals& globals) {
  if (arguments.show) return show(arguments, globals);
  if (!arguments.task.empty() || arguments.flips || arguments.diverged)
    throw Error::refused("--task, --flips and --diverged are of --show");
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
  const auto encoder = load_encoder(arguments, globals);
  if (!arguments.prompts.empty()) {
    prompts = similarity::read_prompts(arguments.prompts, arguments.count);
    base_answers = answers(arguments.base, arguments, prompts, globals);
    if (encoder) encoder->set_references(base_answers);
  }
  Json document{{"base", arguments.base}, {"variants", Json::object()}};
  for (const std::string& variant : variants) {
    Json result = Json::object();
    if (!arguments.text.empty()) result["divergence"] = divergence(arguments, variant, globals);
    if (!prompts.empty()) {
      const auto variant_answers = answers(variant, arguments, prompts, globals);
      result["text"] = compare_texts(prompts, base_answers, variant_answers, encoder.get());
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
      "  narrow compare MODEL out/w4a16 --prompts questions.jsonl --count 50 --encoder "
      "all-MiniLM-L6-v2\n"
      "  narrow compare MODEL --endpoint http://HOST:8000 --model NAME --tokenizer MODEL "
      "--prompts questions.jsonl\n"
      "  narrow compare out/eval-bf16 out/eval-w4a16 --show --task gsm8k --flips");
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
  verb->add_option("--encoder", arguments->encoder,
                   "a BERT or RoBERTa model: also STS and BERTScore of the answers");
  verb->add_option(
          "--bertscore-layer", arguments->layer,
          "layer of the encoder that BERTScore compares; default bert_score's, or the last")
      ->check(CLI::Range(0, 256));
  verb->add_flag("--idf", arguments->idf,
                 "BERTScore weighs tokens by rarity in the base's answers");
  verb->add_option("--count", arguments->count, "prompts taken")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  verb->add_option("--max-tokens", arguments->max_tokens, "tokens of an answer")
      ->capture_default_str()
      ->check(CLI::Range(1, 131072));
  verb->add_option("-o,--output", arguments->output, "file of all figures")->capture_default_str();
  verb->add_flag("--show", arguments->show,
                 "BASE and one VARIANT are folders of narrow eval: print each document with its "
                 "prompt, both answers and verdicts");
  verb->add_option("--task", arguments->task, "with --show: only this task");
  verb->add_flag("--flips", arguments->flips, "with --show: only what became right or wrong");
  verb->add_flag("--diverged", arguments->diverged, "with --show: only answers that differ");
  add_endpoint_flags(*verb, arguments->endpoint);
  add_globals(*verb, globals);
  verb->callback([arguments, &globals] { run(*arguments, globals); });
}

}  // namespace narrow::cli
