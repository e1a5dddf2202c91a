#include "evaluate/ifeval_checkers.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "evaluate/filter.h"
#include "evaluate/ifeval_json.h"
#include "evaluate/language.h"
#include "evaluate/python_text.h"
#include "evaluate/sentences.h"
#include "text/utf8.h"

namespace narrow::evaluate {
namespace {

constexpr const char* kWhere = "arguments of an IFEval instruction";

int64_t count_of(const Json& arguments, const char* key) {
  const double value = json_get<double>(arguments, key, kWhere);
  if (!(std::abs(value) < 1e9))
    throw Error::refused(std::string("\"") + key + "\" is out of range", kWhere);
  return static_cast<int64_t>(value);
}

std::string text_of(const Json& arguments, const char* key) {
  return text::repair(json_get<std::string>(arguments, key, kWhere));
}

std::string stripped_text_of(const Json& arguments, const char* key) {
  return std::string(python::strip(text_of(arguments, key)));
}

bool compare(size_t number, const Json& arguments, const char* relation_key,
             const char* threshold_key) {
  const auto relation = json_get<std::string>(arguments, relation_key, kWhere);
  const auto threshold = count_of(arguments, threshold_key);
  const auto found = static_cast<int64_t>(number);
  if (relation == "less than") return found < threshold;
  if (relation == "at least") return found >= threshold;
  throw Error::refused("the relation is neither \"less than\" nor \"at least\"", relation);
}

// The harness joins arguments into regular expressions as they are, and so do we.
size_t occurrences(const std::string& expression, const std::string& response) {
  return Pattern(expression).matches(response).size();
}

bool blank(std::string_view text) { return python::strip(text).empty(); }

// What is left between matches: re.split without groups.
std::vector<std::string> split(const Pattern& pattern, const std::string& text) {
  std::vector<std::string> parts;
  size_t last = 0;
  for (const Pattern::Match& match : pattern.matches(text)) {
    parts.push_back(text.substr(last, match.begin - last));
    last = match.end;
  }
  parts.push_back(text.substr(last));
  return parts;
}

bool keywords_exist(const Json& arguments, const std::string& response) {
  const auto keywords = json_get<std::vector<std::string>>(arguments, "keywords", kWhere);
  return std::all_of(keywords.begin(), keywords.end(), [&](const std::string& keyword) {
    return occurrences("(?i)" + text::repair(keyword), response) > 0;
  });
}

bool keyword_frequency(const Json& arguments, const std::string& response) {
  const std::string keyword = stripped_text_of(arguments, "keyword");
  return compare(occurrences("(?i)" + keyword, response), arguments, "relation", "frequency");
}

bool forbidden_words(const Json& arguments, const std::string& response) {
  const auto words = json_get<std::vector<std::string>>(arguments, "forbidden_words", kWhere);
  return std::none_of(words.begin(), words.end(), [&](const std::string& word) {
    return occurrences("(?i)\\b" + text::repair(word) + "\\b", response) > 0;
  });
}

bool letter_frequency(const Json& arguments, const std::string& response) {
  const std::string letter = python::lower(stripped_text_of(arguments, "letter"));
  if (python::code_points(letter).size() != 1) throw Error::refused("not one letter", letter);
  const size_t found = python::split(python::lower(response), letter).size() - 1;
  return compare(found, arguments, "let_relation", "let_frequency");
}

bool response_language(const Json& arguments, const std::string& response) {
  const auto found = detect_language(response);
  return !found || *found == json_get<std::string>(arguments, "language", kWhere);
}

bool number_sentences(const Json& arguments, const std::string& response) {
  return compare(sentences(response).size(), arguments, "relation", "num_sentences");
}

bool number_paragraphs(const Json& arguments, const std::string& response) {
  static const Pattern divider(R"(\s?\*\*\*\s?)");
  const auto paragraphs = split(divider, response);
  auto number = static_cast<int64_t>(paragraphs.size());
  for (size_t i = 0; i < paragraphs.size(); ++i) {
    if (!blank(paragraphs[i])) continue;
    if (i != 0 && i != paragraphs.size() - 1) return false;
    --number;
  }
  return number == count_of(arguments, "num_paragraphs");
}

bool number_words(const Json& arguments, const std::string& response) {
  static const Pattern word(R"(\w+)");
  return compare(word.matches(response).size(), arguments, "relation", "num_words");
}

bool nth_paragraph_first_word(const Json& arguments, const std::string& response) {
  const auto paragraphs = python::split(response, "\n\n");
  const auto number = static_cast<int64_t>(
      std::count_if(paragraphs.begin(), paragraphs.end(),
                    [](const std::string& paragraph) { return !blank(paragraph); }));
  const int64_t nth = count_of(arguments, "nth_paragraph");
  if (nth < 1) throw Error::refused("\"nth_paragraph\" is below 1", kWhere);
  // Blank paragraphs are not counted but keep their place: the harness does so.
  if (nth > number) return false;
  const std::string& paragraph = paragraphs[static_cast<size_t>(nth - 1)];
  if (blank(paragraph)) return false;
  std::string word = python::split(paragraph)[0];
  word.erase(0, word.find_first_not_of('\''));
  word.erase(0, word.find_first_not_of('"'));
  word.resize(std::min(word.size(), word.find_first_of(".,?!'\"")));
  return number == count_of(arguments, "num_paragraphs") &&
         python::lower(word) == python::lower(text_of(arguments, "first_word"));
}

bool number_placeholders(const Json& arguments, const std::string& response) {
  static const Pattern placeholder(R"(\[.*?\])");
  return static_cast<int64_t>(placeholder.matches(response).size()) >=
         count_of(arguments, "num_placeholders");
}

bool postscript(const Json& arguments, const std::string& response) {
  const std::string marker = stripped_text_of(arguments, "postscript_marker");
  const std::string expression = marker == "P.P.S"  ? R"(p\.\s?p\.\s?s)"
                                 : marker == "P.S." ? R"(p\.\s?s\.)"
                                                    : python::lower(marker);
  return occurrences(R"((?m)\s*)" + expression + ".*$", python::lower(response)) > 0;
}

bool number_bullet_lists(const Json& arguments, const std::string& response) {
  static const Pattern star(R"((?m)^\s*\*[^\*].*$)"), dash(R"((?m)^\s*-.*$)");
  return static_cast<int64_t>(star.matches(response).size() + dash.matches(response).size()) ==
         count_of(arguments, "num_bullets");
}

bool constrained_response(const Json&, const std::string& response) {
  return response.find("My answer is yes.") != std::string::npos ||
         response.find("My answer is no.") != std::string::npos ||
         response.find("My answer is maybe.") != std::string::npos;
}

bool number_highlighted_sections(const Json& arguments, const std::string& response) {
  static const Pattern single(R"(\*[^\n\*]*\*)"), twofold(R"(\*\*[^\n\*]*\*\*)");
  int64_t number = 0;
  // Between its asterisks a match has none, so both kinds lose exactly those.
  for (const Pattern* pattern : {&single, &twofold})
    for (const std::string& match : pattern->find_all(response))
      number += blank(python::replace(match, "*", "")) ? 0 : 1;
  return number >= count_of(arguments, "num_highlights");
}

bool multiple_sections(const Json& arguments, const std::string& response) {
  const std::string splitter = stripped_text_of(arguments, "section_spliter");
  return static_cast<int64_t>(occurrences(R"(\s?)" + splitter + R"(\s?\d+\s?)", response)) >=
         count_of(arguments, "num_sections");
}

bool json_format(const Json&, const std::string& response) {
  std::string_view text = python::strip(response);
  for (const std::string_view fence : {"```json", "```Json", "```JSON", "```"})
    if (text.starts_with(fence)) text.remove_prefix(fence.size());
  if (text.ends_with("```")) text.remove_suffix(3);
  return is_python_json(python::strip(text));
}

bool title(const Json&, const std::string& response) {
  static const Pattern wrapped(R"(<<[^\n]+>>)");
  const auto titles = wrapped.find_all(response);
  return std::any_of(titles.begin(), titles.end(), [](const std::string& match) {
    const size_t begin = match.find_first_not_of('<'), end = match.find_last_not_of('>');
    return begin <= end && begin != std::string::npos &&
           !blank(std::string_view(match).substr(begin, end + 1 - begin));
  });
}

bool two_responses(const Json&, const std::string& response) {
  const auto parts = python::split(response, "******");
  std::vector<std::string_view> valid;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!blank(parts[i])) {
      valid.push_back(python::strip(parts[i]));
    } else if (i != 0 && i != parts.size() - 1) {
      return false;
    }
  }
  return valid.size() == 2 && valid[0] != valid[1];
}

bool repeat_prompt(const Json& arguments, const std::string& response) {
  return python::lower(python::strip(response))
      .starts_with(python::lower(stripped_text_of(arguments, "prompt_to_repeat")));
}

bool end_checker(const Json& arguments, const std::string& response) {
  std::string_view text = python::strip(response);
  while (text.starts_with('"')) text.remove_prefix(1);
  while (text.ends_with('"')) text.remove_suffix(1);
  return python::lower(text).ends_with(python::lower(stripped_text_of(arguments, "end_phrase")));
}

bool quotation(const Json&, const std::string& response) {
  const std::string_view text = python::strip(response);
  return text.size() > 1 && text.front() == '"' && text.back() == '"';
}

bool capital_word_frequency(const Json& arguments, const std::string& response) {
  const auto words = word_tokens(response);
  const auto capital = std::count_if(
      words.begin(), words.end(), [](const std::string& word) { return python::is_upper(word); });
  return compare(static_cast<size_t>(capital), arguments, "capital_relation", "capital_frequency");
}

bool in_english(const std::string& response) {
  const auto found = detect_language(response);
  return !found || *found == "en";
}

bool english_capital(const Json&, const std::string& response) {
  return python::is_upper(response) && in_english(response);
}

bool english_lowercase(const Json&, const std::string& response) {
  return python::is_lower(response) && in_english(response);
}

bool no_comma(const Json&, const std::string& response) {
  return response.find(',') == std::string::npos;
}

}  // namespace

IfevalChecker find_ifeval_checker(const std::string& instruction) {
  static const std::unordered_map<std::string, IfevalChecker> kCheckers{
      {"keywords:existence", keywords_exist},
      {"keywords:frequency", keyword_frequency},
      {"keywords:forbidden_words", forbidden_words},
      {"keywords:letter_frequency", letter_frequency},
      {"language:response_language", response_language},
      {"length_constraints:number_sentences", number_sentences},
      {"length_constraints:number_paragraphs", number_paragraphs},
      {"length_constraints:number_words", number_words},
      {"length_constraints:nth_paragraph_first_word", nth_paragraph_first_word},
      {"detectable_content:number_placeholders", number_placeholders},
      {"detectable_content:postscript", postscript},
      {"detectable_format:number_bullet_lists", number_bullet_lists},
      {"detectable_format:constrained_response", constrained_response},
      {"detectable_format:number_highlighted_sections", number_highlighted_sections},
      {"detectable_format:multiple_sections", multiple_sections},
      {"detectable_format:json_format", json_format},
      {"detectable_format:title", title},
      {"combination:two_responses", two_responses},
      {"combination:repeat_prompt", repeat_prompt},
      {"startend:end_checker", end_checker},
      {"startend:quotation", quotation},
      {"change_case:capital_word_frequency", capital_word_frequency},
      {"change_case:english_capital", english_capital},
      {"change_case:english_lowercase", english_lowercase},
      {"punctuation:no_comma", no_comma}};
  const auto found = kCheckers.find(instruction);
  return found == kCheckers.end() ? nullptr : found->second;
}

}  // namespace narrow::evaluate
