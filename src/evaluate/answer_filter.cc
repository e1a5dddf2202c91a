#include "evaluate/answer_filter.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "evaluate/python_text.h"
#include "text/utf8.h"

namespace narrow::evaluate {
namespace {

constexpr size_t kMostChoices = 26;  // as many as there are letters

// re.escape.
std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (std::string_view("()[]{}?*+-|^$\\.&~# \t\n\r\v\f").find(c) != std::string_view::npos)
      result += '\\';
    result += c;
  }
  return result;
}

// The selected match without blanks at its ends; empty where there is none.
std::string selected(const Pattern& pattern, int index, const std::string& text) {
  const auto found = pattern.find_all(text);
  if (found.empty()) return "";
  return std::string(python::strip(index < 0 ? found.back() : found.front()));
}

// What the search for a choice's text leaves out of it and of the response.
std::string plain(const FilterStep& step, std::string text) {
  for (const Pattern& pattern : step.ignore) text = pattern.remove_all(text);
  if (step.ignore_case) text = python::lower(text);
  if (step.ignore_punctuation) text = python::without_punctuation(text);
  return text;
}

std::vector<std::string> choices_of(const Json& document) {
  const Json choices = document.is_object() ? document.value("choices", Json()) : Json();
  const bool texts = choices.is_array() && !choices.empty() && choices.size() <= kMostChoices &&
                     std::all_of(choices.begin(), choices.end(),
                                 [](const Json& choice) { return choice.is_string(); });
  if (!texts)
    throw Error::refused("a filter by choices needs documents whose \"choices\" are up to 26 texts",
                         "filter \"choice\"");
  std::vector<std::string> list;
  for (const Json& choice : choices)
    list.emplace_back(python::strip(text::repair(choice.get<std::string>())));
  return list;
}

// MultiChoiceRegexFilter: the pattern's match; or the choice whose text stands in the response,
// longer ones first; or a choice's letter behind a colon.
std::string chosen(const FilterStep& step, const std::string& response, const Json& document) {
  std::vector<std::string> texts = choices_of(document);
  if (const auto match = selected(*step.pattern, step.index, response); !match.empty())
    return match;
  const auto letter = [](size_t i) { return std::string(1, static_cast<char>('A' + i)); };
  std::map<std::string, std::string> letters;  // of equal texts the last one's
  std::vector<std::string> patterns;
  std::string letter_pattern;
  for (size_t i = 0; i < texts.size(); ++i) {
    texts[i] = plain(step, texts[i]);
    letters[texts[i]] = "(" + letter(i) + ")";
    patterns.push_back(escaped(texts[i]));
    letter_pattern += (i ? "|" : "") + letter(i);
  }
  std::stable_sort(patterns.begin(), patterns.end(), [](const auto& a, const auto& b) {
    return python::code_points(a).size() > python::code_points(b).size();
  });
  std::string any;
  for (size_t i = 0; i < patterns.size(); ++i) any += (i ? "|" : "") + patterns[i];
  if (const auto match = selected(Pattern(any), step.index, plain(step, response));
      !match.empty()) {
    const auto found = letters.find(match);
    return found == letters.end() ? match : found->second;
  }
  const auto match = selected(Pattern(":[\\s]*(" + letter_pattern + ")"), step.index, response);
  return match.empty() ? kNoAnswer : "(" + match + ")";
}

std::string apply(const FilterStep& step, const std::string& text, const Json& document) {
  switch (step.kind) {
    case FilterStep::Kind::match:
      return extract(*step.pattern, step.index, text);
    case FilterStep::Kind::choice:
      return chosen(step, text, document);
    case FilterStep::Kind::strip:
      return stripped(text);
  }
  return text;
}

void refuse_unknown(const Json& object, std::initializer_list<const char*> known,
                    const std::string& where) {
  if (!object.is_object()) throw Error::refused("a step of a filter is a mapping", where);
  for (const auto& [key, value] : object.items())
    if (std::find(known.begin(), known.end(), key) == known.end())
      throw Error::refused("unknown field \"" + key + "\" of a filter", where);
}

void read_pattern(const Json& rule, FilterStep& step, const std::string& where) {
  if (rule.contains("first") == rule.contains("last"))
    throw Error::refused("a step of a filter selects the \"first\" or the \"last\" match", where);
  const char* which = rule.contains("last") ? "last" : "first";
  step.pattern.emplace(json_get<std::string>(rule, which, where));
  step.index = rule.contains("last") ? -1 : 0;
}

FilterStep read_step(const Json& rule, const std::string& where) {
  refuse_unknown(rule, {"first", "last", "strip", "choice"}, where);
  if (rule.size() != 1) throw Error::refused("a step of a filter does one thing", where);
  FilterStep step;
  if (rule.contains("choice")) {
    const Json choice = rule["choice"];
    refuse_unknown(choice, {"first", "last", "ignore", "ignore_case", "ignore_punctuation"}, where);
    step.kind = FilterStep::Kind::choice;
    read_pattern(choice, step, where);
    for (const auto& text : json_get<std::vector<std::string>>(choice, "ignore", where, {}))
      step.ignore.emplace_back(text);
    step.ignore_case = json_get<bool>(choice, "ignore_case", where, false);
    step.ignore_punctuation = json_get<bool>(choice, "ignore_punctuation", where, false);
    return step;
  }
  if (rule.contains("strip")) {
    if (!json_get<bool>(rule, "strip", where))
      throw Error::refused("\"strip\" of a filter is true or absent", where);
    step.kind = FilterStep::Kind::strip;
    return step;
  }
  read_pattern(rule, step, where);
  return step;
}

}  // namespace

std::string Filter::answer(const std::string& response, const Json& document) const {
  std::string text = response;
  for (const FilterStep& step : steps) text = apply(step, text, document);
  return text;
}

std::vector<std::string> Filter::answers(const std::vector<std::string>& responses,
                                         const Json& document) const {
  const size_t count =
      take > 0 ? std::min(static_cast<size_t>(take), responses.size()) : responses.size();
  std::vector<std::string> all;
  for (size_t i = 0; i < count; ++i) all.push_back(answer(responses[i], document));
  if (!vote) return all;
  return {*std::ranges::max_element(
      all, {}, [&](const std::string& one) { return std::ranges::count(all, one); })};
}

Filter read_filter(const std::string& name, const Json& rule, const std::string& where) {
  Filter filter;
  filter.name = name;
  if (rule.is_object() && rule.empty()) return filter;  // the whole response
  const Json steps = rule.is_array() ? rule : Json::array({rule});
  for (size_t i = 0; i < steps.size(); ++i) {
    const bool only = steps[i].is_object() && steps[i].size() == 1;
    if (only && i == 0 && steps[i].contains("take")) {
      filter.take = json_get<int64_t>(steps[i], "take", where);
      if (filter.take < 1) throw Error::refused("\"take\" of a filter is at least 1", where);
    } else if (only && i + 1 == steps.size() && steps[i].contains("vote")) {
      filter.vote = json_get<bool>(steps[i], "vote", where);
      if (!filter.vote) throw Error::refused("\"vote\" of a filter is true or absent", where);
    } else {
      filter.steps.push_back(read_step(steps[i], where));
    }
  }
  return filter;
}

}  // namespace narrow::evaluate
