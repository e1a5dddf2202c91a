// Needles in a haystack: sentences that give a key its value, hidden among noise, an essay or other
// needles.
#include <cmath>

#include "base/error.h"
#include "evaluate/python_text.h"
#include "evaluate/ruler_make.h"
#include "evaluate/sentences.h"
#include "text/utf8.h"

namespace narrow::evaluate::ruler {
namespace {

constexpr const char* kNeedle = "One of the special magic {type_needle_v} for {key} is: {value}.";
constexpr const char* kNoise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
constexpr const char* kTemplate =
    "Some special magic {type_needle_v} are hidden within the following text. Make sure to "
    "memorize "
    "it. I will quiz you about the {type_needle_v} afterwards.\n{context}\nWhat are all the "
    "special "
    "magic {type_needle_v} for {query} mentioned in the provided text?";
constexpr const char* kPrefix =
    " The special magic {type_needle_v} for {query} mentioned in the provided text are";

std::string join(const std::vector<std::string>& parts, size_t begin, size_t end,
                 const char* between) {
  std::string text;
  for (size_t i = begin; i < end; ++i) text += (i > begin ? between : "") + parts[i];
  return text;
}

// The essay's words, parted by any white space; empty ones at its ends as Python's split leaves
// them.
std::vector<std::string> essay_words(const std::filesystem::path& data) {
  std::string text;
  if (std::filesystem::is_regular_file(data / "PaulGrahamEssays.json"))
    text = json_get<std::string>(read_json(data / "PaulGrahamEssays.json"), "text",
                                 (data / "PaulGrahamEssays.json").string());
  else
    text = read_first(data, {"PaulGrahamEssays.json", "essays.txt", "tinyshakespeare.txt"});
  text = text::repair(text);
  auto words = python::split(text);
  if (words.empty()) throw Error::refused("the essays are empty", data.string());
  const std::string_view stripped = python::strip(text);
  if (stripped.data() != text.data()) words.insert(words.begin(), "");
  if (stripped.data() + stripped.size() != text.data() + text.size()) words.emplace_back();
  return words;
}

class Niah {
 public:
  Niah(const Json& settings, const RulerOptions& options)
      : haystack_(settings["haystack"].get<std::string>()),
        key_type_(settings["keys"].get<std::string>()),
        value_type_(settings["values"].get<std::string>()),
        keys_(settings["key_count"].get<int64_t>()),
        values_(settings["value_count"].get<int64_t>()),
        queries_(settings["query_count"].get<int64_t>()),
        seed_(options.seed),
        draws_(options.seed) {
    if (haystack_ == "essay") essay_ = essay_words(options.data);
    // np.round(np.linspace(0, 100, 40)).
    for (int i = 0; i < 40; ++i) depths_.push_back(std::nearbyint(i * (100.0 / 39)));
    template_ = std::string(kTemplate) + kPrefix;
    shown_type_ = value_type_;
    if (queries_ * values_ == 1) {
      template_ = replaced(template_, "Some", "A");
      template_ = replaced(template_, "are all", "is");
      template_ = replaced(template_, "are", "is");
      template_ = replaced(template_, "answers", "answer");
      shown_type_.pop_back();
    }
  }

  int64_t step(int64_t length) const {
    if (haystack_ == "essay") return 500;
    return length < 4096 ? 5 : 25;
  }

  std::optional<Made> make(int64_t size) {
    std::vector<std::string> keys, needles;
    std::vector<std::vector<std::string>> values;
    for (int64_t k = 0; k < keys_; ++k) {
      keys.push_back(draw(key_type_));
      values.emplace_back();
      for (int64_t v = 0; v < values_; ++v) {
        values.back().push_back(draw(value_type_));
        needles.push_back(needle(keys.back(), values.back().back()));
      }
    }
    shuffle(needles, seed_);
    const std::string context =
        haystack_ == "essay" ? in_essay(size, needles) : in_lines(size, needles);
    std::vector<std::string> asked;
    Made made;
    for (int64_t i : draws_.python.sample(keys_, queries_)) {
      asked.push_back(keys[static_cast<size_t>(i)]);
      for (const std::string& value : values[static_cast<size_t>(i)]) made.outputs.push_back(value);
    }
    std::string query = asked.back();
    if (asked.size() > 1) query = join(asked, 0, asked.size() - 1, ", ") + ", and " + query;
    made.text =
        format(template_, {{"type_needle_v", shown_type_}, {"context", context}, {"query", query}});
    return made;
  }

 private:
  std::string draw(const std::string& type) {
    if (type == "numbers") return draws_.number();
    if (type == "uuids") return draws_.uuid();
    return phrases().at(draws_.python.below(phrases().size()));
  }
  static const NounPhrases& phrases() {
    static const NounPhrases all;
    return all;
  }
  std::string needle(const std::string& key, const std::string& value) const {
    return format(kNeedle, {{"type_needle_v", value_type_}, {"key", key}, {"value", value}});
  }

  // Of the first `size` words; the samples of a length have the same.
  const std::vector<std::string>& essay_sentences(int64_t size) {
    if (size == sentences_of_) return sentences_;
    std::string text;
    for (int64_t i = 0; i < size; ++i)
      text += (i ? " " : "") + essay_[static_cast<size_t>(i) % essay_.size()];
    sentences_ = sentences(std::string(python::strip(text)));
    sentences_of_ = size;
    return sentences_;
  }

  std::string in_essay(int64_t size, const std::vector<std::string>& needles) {
    const auto& sentences = essay_sentences(size);
    std::vector<size_t> positions;
    for (int64_t i : draws_.python.sample(static_cast<int64_t>(depths_.size()),
                                          static_cast<int64_t>(needles.size())))
      positions.push_back(static_cast<size_t>(static_cast<double>(sentences.size()) *
                                              (depths_[static_cast<size_t>(i)] / 100)));
    std::sort(positions.begin(), positions.end());
    std::vector<std::string> parts;
    size_t from = 0;
    for (size_t i = 0; i < needles.size(); ++i) {
      parts.push_back(join(sentences, from, positions[i], " "));
      parts.push_back(needles[i]);
      from = positions[i];
    }
    parts.push_back(join(sentences, from, sentences.size(), " "));
    return join(parts, 0, parts.size(), " ");
  }

  std::string in_lines(int64_t size, const std::vector<std::string>& needles) {
    std::vector<std::string> lines;
    for (int64_t i = 0; i < size; ++i) {
      if (haystack_ == "noise") {
        lines.push_back(kNoise);
        continue;
      }
      const std::string key = draw(key_type_);
      lines.push_back(needle(key, draw(value_type_)));
    }
    auto places = draws_.python.sample(size, static_cast<int64_t>(needles.size()));
    std::sort(places.rbegin(), places.rend());
    for (size_t i = 0; i < needles.size(); ++i) lines.insert(lines.begin() + places[i], needles[i]);
    return join(lines, 0, lines.size(), "\n");
  }

  const std::string haystack_, key_type_, value_type_;
  const int64_t keys_, values_, queries_;
  const uint32_t seed_;
  Draws draws_;
  std::vector<std::string> essay_, sentences_;
  int64_t sentences_of_ = -1;
  std::vector<double> depths_;
  std::string template_, shown_type_;
};

}  // namespace

std::vector<RulerSample> make_niah(const Json& settings, const RulerOptions& options,
                                   const TokenCounter& count) {
  Niah niah(settings, options);
  const Make make = [&](int64_t size) { return niah.make(size); };
  const auto extra = settings["new_tokens"].get<int64_t>();
  const int64_t limit = options.length - options.template_tokens;
  const int64_t step = niah.step(options.length);
  const double each = static_cast<double>(count(make(step)->text)) / static_cast<double>(step);
  const int64_t size =
      find_size(step, static_cast<int64_t>(static_cast<double>(limit) / each * 3),
                [&](int64_t middle) { return count(make(middle)->text) + extra <= limit; });
  std::vector<RulerSample> samples;
  for (int64_t i = 0; i < options.samples; ++i)
    samples.push_back(
        cut(draw_fitting(size, step, limit, extra, make, count, "RULER's needles"), kPrefix));
  return samples;
}

}  // namespace narrow::evaluate::ruler
