// Which words are common: a numbered list in which ten come more often (cwe), and a text of made-up
// words with Zipf's frequencies (fwe).
#include <cmath>
#include <numbers>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "evaluate/ruler_make.h"

namespace narrow::evaluate::ruler {
namespace {

constexpr const char* kCommonTemplate =
    "Below is a numbered list of words. In these words, some appear more often than others. "
    "Memorize "
    "the ones that appear most often.\n{context}\nQuestion: What are the 10 most common words in "
    "the "
    "above list?";
constexpr const char* kCommonPrefix =
    " Answer: The top 10 words that appear most often in the list are:";
constexpr size_t kCommon = 10;

constexpr const char* kFrequentTemplate =
    "Read the following coded text and track the frequency of each coded word. Find the three most "
    "frequently appeared coded words. {context}\nQuestion: Do not provide any explanation. Please "
    "ignore the dots '....'. What are the three most frequently appeared words in the above coded "
    "text?";
constexpr const char* kFrequentPrefix =
    " Answer: According to the coded text above, the three most frequently appeared words are:";
constexpr int kWordLetters = 6;

std::string numbered(const std::vector<std::string>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i)
    text += (i ? " " : "") + std::to_string(i + 1) + ". " + words[i];
  return text;
}

class CommonWords {
 public:
  explicit CommonWords(const RulerOptions& options)
      : short_(options.length < 4096),
        seed_(options.seed),
        draws_(options.seed),
        words_(all_words()) {
    shuffle(words_, seed_);
    const auto file = options.data / "english_words.json";
    if (!std::filesystem::is_regular_file(file)) return;
    const Json list = read_json(file);
    for (const auto& [key, word] : list.items()) more_words_.push_back(word.get<std::string>());
  }

  // Without RULER's longer list there are no more different words than the short ones have.
  int64_t most() const {
    return static_cast<int64_t>(more_words_.empty() ? words_.size() : more_words_.size());
  }

  std::optional<Made> make(int64_t words) {
    if (words > most() || words < static_cast<int64_t>(kCommon)) return std::nullopt;
    const List example = short_ ? list(20, 3, 1) : list(40, 10, 3);
    const List asked = short_ ? list(words, 6, 1) : list(words, 30, 3);
    const std::string text = std::string(kCommonTemplate) + kCommonPrefix;
    return Made{format(text, {{"context", example.context}}) + " " + numbered(example.common) +
                    "\n" + format(text, {{"context", asked.context}}),
                asked.common};
  }

 private:
  struct List {
    std::string context;
    std::vector<std::string> common;
  };
  List list(int64_t count, int common_repeats, int uncommon_repeats) {
    const auto& from = count <= static_cast<int64_t>(words_.size()) ? words_ : more_words_;
    std::vector<std::string> drawn, repeated;
    for (int64_t i : draws_.python.sample(static_cast<int64_t>(from.size()), count))
      drawn.push_back(from[static_cast<size_t>(i)]);
    const auto middle = drawn.begin() + kCommon;
    for (int i = 0; i < common_repeats; ++i) repeated.insert(repeated.end(), drawn.begin(), middle);
    for (int i = 0; i < uncommon_repeats; ++i) repeated.insert(repeated.end(), middle, drawn.end());
    shuffle(repeated, seed_);
    return {numbered(repeated), {drawn.begin(), middle}};
  }

  const bool short_;
  const uint32_t seed_;
  Draws draws_;
  std::vector<std::string> words_, more_words_;
};

class FrequentWords {
 public:
  FrequentWords(const RulerOptions& options, int64_t limit)
      : seed_(options.seed), vocabulary_size_(limit / 50), draws_(options.seed) {}

  // A vocabulary of its own for each sample; the dots take its first rank.
  void draw_vocabulary() {
    std::set<std::string> unique;
    while (static_cast<int64_t>(unique.size()) < vocabulary_size_)
      unique.insert(draws_.letters('a', kWordLetters));
    vocabulary_.assign(unique.begin(), unique.end());
    shuffle(vocabulary_, seed_);
    vocabulary_[0] = "...";
  }

  Made make(int64_t words) const {
    constexpr double kZeta = std::numbers::pi * std::numbers::pi / 6;  // of alpha = 2
    std::vector<std::string> text;
    for (size_t rank = 0; rank < vocabulary_.size(); ++rank) {
      const double expected =
          static_cast<double>(words) * std::pow(static_cast<double>(rank + 1), -2.0) / kZeta;
      text.insert(text.end(), static_cast<size_t>(std::max(0.0, expected)), vocabulary_[rank]);
    }
    shuffle(text, seed_);
    std::string context;
    for (const std::string& word : text) context += (context.empty() ? "" : " ") + word;
    return {format(std::string(kFrequentTemplate) + kFrequentPrefix, {{"context", context}}),
            {vocabulary_.begin() + 1, vocabulary_.begin() + 4}};
  }

 private:
  const uint32_t seed_;
  const int64_t vocabulary_size_;
  Draws draws_;
  std::vector<std::string> vocabulary_;
};

}  // namespace

std::vector<RulerSample> make_common_words(const Json& settings, const RulerOptions& options,
                                           const TokenCounter& count) {
  constexpr int64_t kStep = 10, kProbe = 4096;
  CommonWords common(options);
  const Make make = [&](int64_t size) { return common.make(size); };
  const auto extra = settings["new_tokens"].get<int64_t>();
  const int64_t limit = options.length - options.template_tokens;
  const double each = static_cast<double>(count(make(kProbe)->text)) / kProbe;
  const int64_t bound = static_cast<int64_t>(std::floor(static_cast<double>(limit) / each)) * 2;
  const int64_t size = find_size(kStep, bound, [&](int64_t middle) {
    const auto made = make(middle);
    return made && count(made->text) + extra <= limit;
  });
  if (size == common.most())
    log::warning(
        "RULER cwe at {} tokens: all {} words are used and the prompt stays shorter; RULER's own "
        "english_words.json in the data folder has more",
        options.length, size);
  std::vector<RulerSample> samples;
  for (int64_t i = 0; i < options.samples; ++i)
    samples.push_back(
        cut(draw_fitting(size, kStep, limit, extra, make, count, "RULER's common words"),
            kCommonPrefix));
  return samples;
}

std::vector<RulerSample> make_frequent_words(const Json& settings, const RulerOptions& options,
                                             const TokenCounter& count) {
  const auto extra = settings["new_tokens"].get<int64_t>();
  const int64_t limit = options.length - options.template_tokens - extra;
  if (limit < 50 * 5)
    throw Error::refused("the length holds too few words", "RULER's frequent words");
  const int64_t step = limit / 32;
  FrequentWords frequent(options, limit);
  frequent.draw_vocabulary();
  int64_t words = limit / kWordLetters;
  while (count(frequent.make(words).text) < limit) words += step;
  words -= step;
  std::vector<RulerSample> samples;
  for (int64_t i = 0; i < options.samples; ++i) {
    frequent.draw_vocabulary();
    int64_t size = words;
    Made made = frequent.make(size);
    int64_t tokens = count(made.text);
    while (tokens > limit) {
      if ((size -= step) <= 0) throw Error::refused("no sample fits", "RULER's frequent words");
      made = frequent.make(size);
      tokens = count(made.text);
    }
    samples.push_back(cut({std::move(made), tokens + extra}, kFrequentPrefix));
  }
  return samples;
}

}  // namespace narrow::evaluate::ruler
