#include "similarity/answers.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/wait.h"
#include "similarity/rouge.h"
#include "similarity/sts.h"

namespace narrow::similarity {

std::vector<TextPrompt> read_prompts(const std::string& file, int64_t count) {
  std::vector<TextPrompt> prompts;
  for_each_json_line(file, [&](Json&& row, int64_t line) {
    if (static_cast<int64_t>(prompts.size()) >= count) return;
    const std::string where = file + ":" + std::to_string(line);
    TextPrompt prompt;
    for (const char* key : {"id", "uid", "question_id"})
      if (prompt.id.empty() && row.contains(key))
        prompt.id = row[key].is_string() ? row[key].get<std::string>() : row[key].dump();
    if (row.contains("turns")) {
      const Json& turn = row["turns"].at(0);
      prompt.text = turn.is_string() ? turn.get<std::string>()
                                     : json_get<std::string>(turn, "content", where);
    } else {
      prompt.text = json_get<std::string>(row, row.contains("text") ? "text" : "prompt", where);
    }
    prompts.push_back(std::move(prompt));
  });
  if (static_cast<int64_t>(prompts.size()) < count)
    throw Error::refused("has " + std::to_string(prompts.size()) + " prompts, " +
                             std::to_string(count) + " are wanted",
                         file);
  return prompts;
}

void generate_answers(endpoint::Endpoint& endpoint, const std::vector<TextPrompt>& prompts,
                      int64_t max_tokens, const std::set<int64_t>& done, const AnswerSink& sink) {
  std::vector<std::pair<int64_t, std::future<endpoint::GenerateResult>>> futures;
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (done.contains(static_cast<int64_t>(i))) continue;
    endpoint::GenerateRequest request;
    request.id = prompts[i].id;
    request.prompt =
        endpoint.chat_template()
            ? endpoint::encode_chat(endpoint,
                                    Json::array({{{"role", "user"}, {"content", prompts[i].text}}}))
            : endpoint.tokenizer().encode(prompts[i].text, {.add_special = true});
    request.sampling.max_tokens = max_tokens;
    futures.emplace_back(static_cast<int64_t>(i), endpoint.generate(std::move(request)));
  }
  for (auto& [index, future] : futures) {
    const auto result = wait_for(future);
    if (result.finish == endpoint::FinishReason::error)
      throw Error::failed(result.error, "prompt " + result.id);
    sink(index, {result.token_ids, result.text});
  }
}

AnswerEncoder::AnswerEncoder(const std::filesystem::path& directory, const std::string& backend,
                             int threads, const Options& options)
    : encoder_(directory, backend, threads), scorer_(encoder_, options.layer), idf_(options.idf) {}

void AnswerEncoder::set_references(const std::vector<Answer>& base) {
  if (!idf_) return;
  std::vector<std::string> texts;
  for (const Answer& answer : base) texts.push_back(answer.text);
  scorer_.weigh_by_rarity(texts);
}

Json AnswerEncoder::score(const Answer& base, const Answer& variant) {
  const auto number = [](double value) { return std::isnan(value) ? Json() : Json(value); };
  const BertScore bert = scorer_.score(base.text, variant.text);
  return {{"sts", cosine(sentence_embedding(encoder_, base.text),
                         sentence_embedding(encoder_, variant.text))},
          {"bertscore_precision", number(bert.precision)},
          {"bertscore_recall", number(bert.recall)},
          {"bertscore_f1", number(bert.f1)}};
}

Json AnswerEncoder::key() const {
  return {{"name", encoder_.checkpoint().name()},
          {"sha256", encoder_.checkpoint().fingerprint()},
          {"bertscore_layer", scorer_.layer()},
          {"idf", idf_}};
}

Json compare_answers(const TextPrompt& prompt, const Answer& base, const Answer& variant,
                     AnswerEncoder* encoder) {
  const auto reference = rouge_tokens(base.text), candidate = rouge_tokens(variant.text);
  const auto [a, b] =
      std::mismatch(base.ids.begin(), base.ids.end(), variant.ids.begin(), variant.ids.end());
  const bool identical = a == base.ids.end() && b == variant.ids.end();
  Json row{{"prompt_id", prompt.id},
           {"prompt", prompt.text},
           {"base_text", base.text},
           {"text", variant.text},
           {"rouge1", rouge_n(reference, candidate, 1).f},
           {"rouge2", rouge_n(reference, candidate, 2).f},
           {"rougeL", rouge_l(reference, candidate).f},
           {"first_divergence", identical ? Json() : Json(a - base.ids.begin())},
           {"base_tokens", base.ids.size()},
           {"tokens", variant.ids.size()}};
  if (encoder) row.update(encoder->score(base, variant));
  return row;
}

}  // namespace narrow::similarity
