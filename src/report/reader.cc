#include "report/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "base/hash.h"
#include "report/escape.h"

namespace narrow::report {
namespace {

using analyse::Analysis;
using analyse::Sample;

constexpr const char* kAnswers = "greedy answers";  // the task that text pairs are shown under
constexpr int64_t kAlike = 4'096;                   // bytes of a common beginning
constexpr size_t kNameLimit = 400;                  // bytes of a name or an extracted answer
constexpr size_t kWord = 24;                        // bytes to go back to the start of a word
constexpr size_t kContexts = 16, kChoices = 32;     // of a question

bool inside_character(std::string_view text, size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
}

// The first `head` and last `tail` bytes, cut between characters.
std::string shorten(std::string_view text, size_t head, size_t tail) {
  if (text.size() <= head + tail) return visible(text);
  size_t end = head, begin = text.size() - tail;
  while (end > 0 && inside_character(text, end)) --end;
  while (begin < text.size() && inside_character(text, begin)) ++begin;
  return visible(text.substr(0, end)) + fmt::format(" … ({} bytes left out) … ", begin - end) +
         visible(text.substr(begin));
}

std::string name(const std::string& text) { return shorten(text, kNameLimit, 0); }

// Bytes that both begin with, up to the start of the word or character that differs.
size_t alike(std::string_view a, std::string_view b) {
  size_t same = 0;
  while (same < a.size() && same < b.size() && a[same] == b[same]) ++same;
  if (same == a.size() && same == b.size()) return same;
  for (size_t back = 0; back <= std::min(kWord, same); ++back) {
    const size_t at = same - back;
    if (at == 0 || a[at - 1] == ' ' || a[at - 1] == '\n') return at;
  }
  while (same > 0 && (inside_character(a, same) || inside_character(b, same))) --same;
  return same;
}

// The number of a choice; negative when the answer is none.
int64_t choice_number(const std::string& answer) {
  int64_t number = -1;
  const auto [end, error] = std::from_chars(answer.data(), answer.data() + answer.size(), number);
  return error == std::errc() && end == answer.data() + answer.size() ? number : -1;
}

// A group of samples of one format on one task, and what the page makes of it.
struct Group {
  analyse::SampleCount count;
  std::vector<const Sample*> samples;
  int64_t shown = 0;
};

class Reader {
 public:
  explicit Reader(const ReaderLimits& limits) : limits_(limits) {}

  Json make(std::vector<Group>& groups) {
    // By rank in the group, so that each has its share of the bytes.
    bool left = true;
    for (size_t rank = 0; left && bytes_ < limits_.bytes; ++rank) {
      left = false;
      for (size_t g = 0; g < groups.size() && bytes_ < limits_.bytes; ++g) {
        if (rank >= groups[g].samples.size()) continue;
        left = true;
        samples_.push_back(sample(*groups[g].samples[rank], g));
        ++groups[g].shown;
      }
    }
    // As a list to read: by group, then as chosen.
    std::stable_sort(samples_.begin(), samples_.end(), [](const Json& a, const Json& b) {
      return a["group"].get<size_t>() < b["group"].get<size_t>();
    });
    Json list = Json::array();
    for (const Group& group : groups)
      list.push_back({{"task", name(group.count.task)},
                      {"format", name(group.count.format)},
                      {"pairs", group.count.pairs},
                      {"lost", group.count.lost},
                      {"gained", group.count.gained},
                      {"changed", group.count.changed},
                      {"shown", group.shown}});
    return {{"prompts", prompts_}, {"groups", std::move(list)}, {"samples", samples_}};
  }

 private:
  std::string counted(std::string text) {
    bytes_ += static_cast<int64_t>(text.size());
    return text;
  }

  // The same prompt is kept once, whatever number of formats answered it.
  size_t prompt(const std::vector<std::string>& contexts) {
    std::string key;
    for (const std::string& context : contexts)
      key += std::to_string(context.size()) + ":" + context;
    const auto [place, fresh] = places_.try_emplace(sha256_hex(key), prompts_.size());
    if (!fresh) return place->second;
    const auto limit = static_cast<size_t>(limits_.prompt);
    Json texts = Json::array();
    for (size_t i = 0; i < std::min(contexts.size(), kContexts); ++i)
      texts.push_back(counted(shorten(contexts[i], limit / 4, limit - limit / 4)));
    prompts_.push_back(std::move(texts));
    return place->second;
  }

  Json sample(const Sample& item, size_t group) {
    const std::string key =
        item.task + "\n" + item.format + "\n" + item.subtask + "\n" + std::to_string(item.doc_id);
    Json json{{"id", "s-" + sha256_hex(key).substr(0, 12)},
              {"group", group},
              {"subtask", name(item.subtask)},
              {"doc", item.doc_id},
              {"flip", static_cast<int>(item.flip)},
              {"divergence", item.divergence},
              {"prompt", prompt(item.contexts)},
              {"target", counted(name(item.target))},
              {"metric", name(item.metric)},
              {"score_base", item.score_base},
              {"score", item.score}};
    json["continuations"] = Json::array();
    for (size_t i = 0; i < std::min(item.continuations.size(), kContexts); ++i)
      json["continuations"].push_back(counted(shorten(item.continuations[i], 1000, 1000)));
    if (!item.loglikelihoods.empty()) {
      Json choices = Json::array();
      for (size_t i = 0; i < std::min(item.loglikelihoods.size(), kChoices); ++i)
        choices.push_back(
            {{"text", i < item.choices.size() ? counted(shorten(item.choices[i], 1000, 1000)) : ""},
             {"base",
              i < item.loglikelihoods_base.size() ? Json(item.loglikelihoods_base[i]) : Json()},
             {"format", item.loglikelihoods[i]}});
      json["choices"] = std::move(choices);
      json["chosen_base"] = choice_number(item.extracted_base);
      json["chosen"] = choice_number(item.extracted);
      return json;
    }
    const size_t same = alike(item.response_base, item.response);
    const std::string_view base = item.response_base, other = item.response;
    const auto limit = static_cast<size_t>(limits_.answer);
    json["alike"] = counted(shorten(base.substr(0, same), 0, kAlike));
    json["rest_base"] = counted(shorten(base.substr(same), limit, 0));
    json["rest"] = counted(shorten(other.substr(same), limit, 0));
    json["extracted_base"] = name(item.extracted_base);
    json["extracted"] = name(item.extracted);
    return json;
  }

  const ReaderLimits limits_;
  int64_t bytes_ = 0;
  std::map<std::string, size_t> places_;
  Json prompts_ = Json::array();
  std::vector<Json> samples_;
};

// The pairs of greedy answers, which no task judges.
std::vector<Sample> text_samples(const analyse::TextSimilarity& texts) {
  std::vector<Sample> samples;
  for (const analyse::TextPair& pair : texts.samples) {
    Sample sample;
    sample.task = kAnswers;
    sample.subtask = pair.prompt_id;
    sample.format = texts.format;
    sample.flip = analyse::Flip::none;
    sample.contexts = {pair.prompt};
    sample.response_base = pair.base_text;
    sample.response = pair.text;
    const size_t longest = std::max<size_t>(1, std::max(pair.base_text.size(), pair.text.size()));
    sample.divergence =
        1 - static_cast<double>(alike(pair.base_text, pair.text)) / static_cast<double>(longest);
    samples.push_back(std::move(sample));
  }
  return samples;
}

}  // namespace

Json reader_data(const Analysis& analysis, const ReaderLimits& limits) {
  std::vector<Group> groups;
  for (const analyse::SampleCount& count : analysis.samples.counts) {
    Group group{count, {}, 0};
    for (const Sample& sample : analysis.samples.list)
      if (sample.task == count.task && sample.format == count.format)
        group.samples.push_back(&sample);
    groups.push_back(std::move(group));
  }
  std::vector<std::vector<Sample>> texts;
  for (const analyse::TextSimilarity& item : analysis.texts) texts.push_back(text_samples(item));
  for (size_t i = 0; i < texts.size(); ++i) {
    Group group{{kAnswers, analysis.texts[i].format}, {}, 0};
    group.count.pairs = analysis.texts[i].prompts;
    for (const Sample& sample : texts[i]) group.samples.push_back(&sample);
    groups.push_back(std::move(group));
  }
  return Reader(limits).make(groups);
}

}  // namespace narrow::report
