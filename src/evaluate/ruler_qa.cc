// Questions about documents of SQuAD or HotpotQA, among other documents of the set.
#include <algorithm>
#include <map>

#include "base/error.h"
#include "evaluate/ruler_make.h"

namespace narrow::evaluate::ruler {
namespace {

constexpr const char* kTemplate =
    "Answer the question based on the given documents. Only give me the answer and do not output "
    "any "
    "other words.\n\nThe following are given documents.\n\n{context}\n\nAnswer the question based "
    "on "
    "the given documents. Only give me the answer and do not output any other words.\n\nQuestion: "
    "{query}";
constexpr const char* kPrefix = " Answer:";

struct Question {
  std::string query;
  std::vector<std::string> outputs;
  std::vector<int64_t> own, related;  // documents with the answer; others of the same article
};

struct Library {
  std::vector<std::string> documents;  // sorted, each once
  std::vector<Question> questions;

  void set_documents(std::vector<std::string> all) {
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    documents = std::move(all);
  }
  int64_t index_of(const std::string& document) const {
    return std::lower_bound(documents.begin(), documents.end(), document) - documents.begin();
  }
};

Library read_squad(const std::filesystem::path& data) {
  const std::string where = "SQuAD";
  const Json set = parse_json(read_first(data, {"squad.json", "squad_dev_subset.json"}), where);
  const auto articles = json_get<std::vector<Json>>(set, "data", where);
  const auto paragraphs = [&](const Json& article) {
    return json_get<std::vector<Json>>(article, "paragraphs", where);
  };
  Library library;
  std::vector<std::string> all;
  for (const Json& article : articles)
    for (const Json& paragraph : paragraphs(article))
      all.push_back(json_get<std::string>(paragraph, "context", where));
  library.set_documents(std::move(all));
  for (const Json& article : articles) {
    std::vector<int64_t> of_article;
    for (const Json& paragraph : paragraphs(article))
      of_article.push_back(library.index_of(json_get<std::string>(paragraph, "context", where)));
    for (const Json& paragraph : paragraphs(article)) {
      const int64_t own = library.index_of(json_get<std::string>(paragraph, "context", where));
      for (const Json& item : json_get<std::vector<Json>>(paragraph, "qas", where)) {
        if (json_get<bool>(item, "is_impossible", where, false)) continue;
        Question question{json_get<std::string>(item, "question", where), {}, {own}, {}};
        for (const Json& answer : json_get<std::vector<Json>>(item, "answers", where))
          question.outputs.push_back(json_get<std::string>(answer, "text", where));
        for (int64_t other : of_article)
          if (other != own) question.related.push_back(other);
        library.questions.push_back(std::move(question));
      }
    }
  }
  return library;
}

Library read_hotpot(const std::filesystem::path& data) {
  const std::string where = "HotpotQA";
  const Json set =
      parse_json(read_first(data, {"hotpotqa.json", "hotpot_distractor_subset.json"}), where);
  if (!set.is_array()) throw Error::refused("expected a list", where);
  const auto documents_of = [&](const Json& row) {
    std::vector<std::string> documents;
    for (const Json& pair : json_get<std::vector<Json>>(row, "context", where)) {
      if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_array())
        throw Error::refused("\"context\" is no list of titles and sentences", where);
      std::string text = pair[0].get<std::string>() + "\n";
      for (const Json& sentence : pair[1])
        if (sentence.is_string()) text += sentence.get<std::string>();
      documents.push_back(std::move(text));
    }
    return documents;
  };
  Library library;
  std::vector<std::string> all;
  for (const Json& row : set)
    for (std::string& document : documents_of(row)) all.push_back(std::move(document));
  library.set_documents(std::move(all));
  for (const Json& row : set) {
    Question question{json_get<std::string>(row, "question", where),
                      {json_get<std::string>(row, "answer", where)},
                      {},
                      {}};
    for (const std::string& document : documents_of(row))
      question.own.push_back(library.index_of(document));
    library.questions.push_back(std::move(question));
  }
  return library;
}

std::optional<Made> make(const Library& library, const Question& question, int64_t size,
                         uint32_t seed, Draws& draws) {
  std::vector<int64_t> chosen = question.own;
  const auto total = static_cast<int64_t>(library.documents.size());
  const int64_t wanted = size - static_cast<int64_t>(question.own.size());
  const auto related = static_cast<int64_t>(question.related.size());
  if (size < total && wanted < 0) return std::nullopt;
  if (size >= total) {
    chosen.clear();
    for (int64_t i = 0; i < size; ++i) chosen.push_back(i % total);
  } else if (wanted > related) {
    chosen.insert(chosen.end(), question.related.begin(), question.related.end());
    std::vector<bool> taken(static_cast<size_t>(total));
    for (int64_t i : chosen) taken[static_cast<size_t>(i)] = true;
    std::vector<int64_t> others;
    for (int64_t i = 0; i < total; ++i)
      if (!taken[static_cast<size_t>(i)]) others.push_back(i);
    const int64_t more = wanted - related;
    if (more > static_cast<int64_t>(others.size())) return std::nullopt;
    for (int64_t i : draws.python.sample(static_cast<int64_t>(others.size()), more))
      chosen.push_back(others[static_cast<size_t>(i)]);
  } else {
    for (int64_t i : draws.python.sample(related, wanted))
      chosen.push_back(question.related[static_cast<size_t>(i)]);
  }
  shuffle(chosen, seed);
  std::string context;
  for (size_t i = 0; i < chosen.size(); ++i)
    context += (i ? "\n\nDocument " : "Document ") + std::to_string(i + 1) + ":\n" +
               library.documents[static_cast<size_t>(chosen[i])];
  return Made{
      format(std::string(kTemplate) + kPrefix, {{"context", context}, {"query", question.query}}),
      question.outputs};
}

}  // namespace

std::vector<RulerSample> make_qa(const Json& settings, const RulerOptions& options,
                                 const TokenCounter& count) {
  constexpr int64_t kStep = 10;
  const Library library =
      settings["documents"] == "squad" ? read_squad(options.data) : read_hotpot(options.data);
  if (library.questions.empty()) throw Error::refused("no questions", options.data.string());
  Draws draws(options.seed);
  const auto extra = settings["new_tokens"].get<int64_t>();
  const int64_t limit = options.length - options.template_tokens;
  const auto tokens_of_first = [&](int64_t size) {
    const auto made = make(library, library.questions[0], size, options.seed, draws);
    return made ? count(made->text) : INT64_MAX / 2;
  };
  const double each = static_cast<double>(tokens_of_first(kStep)) / kStep;
  const int64_t size =
      find_size(kStep, static_cast<int64_t>(static_cast<double>(limit) / each * 3),
                [&](int64_t middle) { return tokens_of_first(middle) + extra <= limit; });
  std::vector<RulerSample> samples;
  const auto questions = static_cast<int64_t>(library.questions.size());
  for (int64_t i = 0; i < std::min(options.samples, questions); ++i) {
    const Question& question = library.questions[static_cast<size_t>(i)];
    samples.push_back(
        cut(draw_fitting(
                size, kStep, limit, extra,
                [&](int64_t n) { return make(library, question, n, options.seed, draws); }, count,
                "RULER's questions"),
            kPrefix));
  }
  return samples;
}

}  // namespace narrow::evaluate::ruler
