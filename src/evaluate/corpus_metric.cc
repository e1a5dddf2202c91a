#include "evaluate/corpus_metric.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <unordered_map>

#include "base/error.h"
#include "evaluate/filter.h"
#include "evaluate/python_random.h"
#include "evaluate/python_text.h"
#include "evaluate/ter.h"
#include "text/utf8.h"

namespace narrow::evaluate {
namespace {

using Ngrams = std::unordered_map<std::string, int64_t>;

int64_t matches(const Ngrams& of, const Ngrams& in) {
  int64_t count = 0;
  for (const auto& [ngram, times] : of)
    if (const auto found = in.find(ngram); found != in.end())
      count += std::min(times, found->second);
  return count;
}

// ---- BLEU (Papineni et al. 2002) with the tokens of mteval-v13a and exponential smoothing.

constexpr size_t kWords = 4;  // longest n-gram

// sacrebleu/tokenizers/tokenizer_13a.py, tokenizer_re.py.
std::vector<std::string> tokens_13a(const std::string& segment) {
  static const std::pair<Pattern, const char*> kRules[] = {
      {Pattern(R"(([\{-\~\[-\` -\&\(-\+\:-\@\/]))"), R"( \1 )"},
      {Pattern(R"(([^0-9])([\.,]))"), R"(\1 \2 )"},
      {Pattern(R"(([\.,])([^0-9]))"), R"( \1 \2)"},
      {Pattern(R"(([0-9])(-))"), R"(\1 \2 )"}};
  std::string line(python::strip_right(segment));
  line = python::replace(line, "<skipped>", "");
  line = python::replace(line, "-\n", "");
  line = python::replace(line, "\n", " ");
  if (line.find('&') != std::string::npos)
    for (const auto& [entity, character] :
         {std::pair{"&quot;", "\""}, {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}})
      line = python::replace(line, entity, character);
  line = " " + line + " ";
  for (const auto& [pattern, replacement] : kRules) line = pattern.replace_all(line, replacement);
  return python::split(line);
}

Ngrams word_ngrams(const std::vector<std::string>& words, size_t n) {
  Ngrams ngrams;
  for (size_t i = 0; i + n <= words.size(); ++i) {
    std::string ngram = words[i];
    for (size_t j = 1; j < n; ++j) ngram += " " + words[i + j];
    ++ngrams[ngram];
  }
  return ngrams;
}

// Words of the answer, of the target; for each n the n-grams they share, then those of the answer.
Counts count_bleu(const std::string& answer, const std::string& target) {
  const auto ours = tokens_13a(answer), theirs = tokens_13a(target);
  Counts counts{static_cast<int64_t>(ours.size()), static_cast<int64_t>(theirs.size())};
  for (size_t n = 1; n <= kWords; ++n)
    counts.push_back(matches(word_ngrams(ours, n), word_ngrams(theirs, n)));
  for (size_t n = 1; n <= kWords; ++n)
    counts.push_back(ours.size() >= n ? static_cast<int64_t>(ours.size() - n + 1) : 0);
  return counts;
}

double bleu(const Counts& counts) {
  const auto correct = counts.begin() + 2, total = correct + kWords;
  if (std::all_of(correct, total, [](int64_t c) { return c == 0; })) return 0;
  constexpr double kLogOfNothing = -9999999999;
  double logs = 0, smooth = 1;
  bool ended = false;
  for (size_t n = 0; n < kWords; ++n) {
    const auto right = static_cast<double>(correct[static_cast<long>(n)]),
               all = static_cast<double>(total[static_cast<long>(n)]);
    ended = ended || all == 0;
    if (ended) {
      logs += kLogOfNothing;
    } else if (right == 0) {
      smooth *= 2;
      logs += std::log(100 / (smooth * all));
    } else {
      logs += std::log(100 * right / all);
    }
  }
  const auto ours = static_cast<double>(counts[0]), theirs = static_cast<double>(counts[1]);
  const double brevity = ours >= theirs ? 1 : ours > 0 ? std::exp(1 - theirs / ours) : 0;
  return brevity * std::exp(logs / kWords);
}

// ---- chrF (Popović 2015): n-grams of characters to 6, blanks left out, recall counting twice.

constexpr size_t kCharacters = 6;
constexpr double kBetaSquared = 4;

std::vector<std::string> characters(const std::string& text) {
  std::vector<std::string> list;
  for (const uint32_t code : python::code_points(text))
    if (!python::is_space(code)) list.push_back(text::encode_utf8(code));
  return list;
}

Ngrams character_ngrams(const std::vector<std::string>& characters, size_t n) {
  Ngrams ngrams;
  for (size_t i = 0; i + n <= characters.size(); ++i) {
    std::string ngram;
    for (size_t j = 0; j < n; ++j) ngram += characters[i + j];
    ++ngrams[ngram];
  }
  return ngrams;
}

// For each n: n-grams of the answer (none where the target has none), of the target, shared.
Counts count_chrf(const std::string& answer, const std::string& target) {
  const auto ours = characters(answer), theirs = characters(target);
  const auto number = [](const std::vector<std::string>& list, size_t n) {
    return list.size() >= n ? static_cast<int64_t>(list.size() - n + 1) : 0;
  };
  Counts counts;
  for (size_t n = 1; n <= kCharacters; ++n) {
    const int64_t of_target = number(theirs, n);
    counts.push_back(of_target > 0 ? number(ours, n) : 0);
    counts.push_back(of_target);
    counts.push_back(matches(character_ngrams(ours, n), character_ngrams(theirs, n)));
  }
  return counts;
}

double chrf(const Counts& counts) {
  double precision = 0, recall = 0, orders = 0;
  for (size_t i = 0; i < counts.size(); i += 3) {
    const auto ours = static_cast<double>(counts[i]), theirs = static_cast<double>(counts[i + 1]),
               shared = static_cast<double>(counts[i + 2]);
    if (ours == 0 || theirs == 0) continue;
    precision += shared / ours;
    recall += shared / theirs;
    ++orders;
  }
  if (orders == 0 || precision + recall == 0) return 0;
  precision /= orders;
  recall /= orders;
  return 100 * (1 + kBetaSquared) * precision * recall / (kBetaSquared * precision + recall);
}

// ---- TER: edits, words of the target.

Counts count_ter(const std::string& answer, const std::string& target) {
  const Edits edits = translation_edits(answer, target);
  return {edits.edits, edits.words};
}

double ter(const Counts& counts) {
  if (counts[1] == 0) return counts[0] > 0 ? 100 : 0;
  return 100 * (static_cast<double>(counts[0]) / static_cast<double>(counts[1]));
}

// ---- Choices.

double f1(const ChoicePairs& pairs) {
  int64_t both = 0, either = 0;
  for (const auto& [right, chosen] : pairs) {
    if (right < 0 || right > 1 || chosen < 0 || chosen > 1)
      throw Error::refused("f1 is of two choices, here are others", "metric f1");
    both += right == 1 && chosen == 1;
    either += (right == 1) + (chosen == 1);
  }
  return either == 0 ? 0 : 2 * static_cast<double>(both) / static_cast<double>(either);
}

// The correlation of K classes (Gorodkin 2004), by covariances as scikit-learn computes it.
double matthews(const ChoicePairs& pairs) {
  std::map<int64_t, double> right_counts, chosen_counts;
  double agreed = 0;
  for (const auto& [right, chosen] : pairs) {
    ++right_counts[right];
    ++chosen_counts[chosen];
    agreed += right == chosen;
  }
  const auto n = static_cast<double>(pairs.size());
  double mixed = 0, of_right = 0, of_chosen = 0;
  for (const auto& [choice, count] : right_counts) {
    of_right += count * count;
    if (const auto found = chosen_counts.find(choice); found != chosen_counts.end())
      mixed += count * found->second;
  }
  for (const auto& [choice, count] : chosen_counts) of_chosen += count * count;
  const double spread = (n * n - of_right) * (n * n - of_chosen);
  return spread == 0 ? 0 : (agreed * n - mixed) / std::sqrt(spread);
}

}  // namespace

const std::vector<TextMetric>& text_metrics() {
  static const std::vector<TextMetric> metrics{
      {"bleu", count_bleu, bleu}, {"chrf", count_chrf, chrf}, {"ter", count_ter, ter, false}};
  return metrics;
}

const TextMetric* find_text_metric(const std::string& name) {
  for (const TextMetric& metric : text_metrics())
    if (name == metric.name) return &metric;
  return nullptr;
}

const ChoiceMetric* find_choice_metric(const std::string& name) {
  static constexpr ChoiceMetric kMetrics[] = {{"f1", f1}, {"mcc", matthews}};
  for (const ChoiceMetric& metric : kMetrics)
    if (name == metric.name) return &metric;
  return nullptr;
}

double corpus_score(const TextMetric& metric, const std::vector<Counts>& documents) {
  Counts sums(documents.at(0).size());
  for (const Counts& counts : documents)
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += counts[i];
  return metric.score(sums);
}

double corpus_error(const TextMetric& metric, const std::vector<Counts>& documents) {
  constexpr int kResamplings = 100;
  PythonRandom random(0);
  std::vector<double> scores;
  double mean = 0;
  for (int i = 0; i < kResamplings; ++i) {
    std::vector<Counts> drawn;
    for (size_t j = 0; j < documents.size(); ++j)  // random.choices
      drawn.push_back(
          documents[static_cast<size_t>(random.random() * static_cast<double>(documents.size()))]);
    scores.push_back(corpus_score(metric, drawn));
    mean += scores.back() / kResamplings;
  }
  double squares = 0;
  for (const double score : scores) squares += (score - mean) * (score - mean);
  return std::sqrt(squares / (kResamplings - 1));
}

}  // namespace narrow::evaluate
