#include "evaluate/math_extract.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "evaluate/filter.h"
#include "evaluate/math_normalize.h"
#include "evaluate/math_parser.h"
#include "evaluate/python_text.h"

namespace narrow::evaluate::math {
namespace {

// A dozen patterns run over a response; together they may take a second or two at the worst.
constexpr uint32_t kMatchLimit = 1'000'000;

constexpr int kEnvironments = 6;  // formulas joined by "and", "or" and commas

const std::string kPercent = R"(((?:\\?%|[Pp]ercent|[Pp]ercentage|[Pp]ct)))";

// One formula in its delimiters; groups: one for each delimiter, a lone fraction unless `boxed`, a
// percent sign.
std::string environment(bool boxed) {
  const auto content = [&](const std::string& part) {
    return boxed ? part + "*?\\\\boxed{" + part + "+?}" + part + "*?" : part + "+?";
  };
  std::string any = R"((?<!\\)\$\$()" + content(R"((?:[^$]|\$(?!\$)))") + R"()(?<!\\)\$\$)";
  any += R"(|(?<!\\)\\\[()" + content(R"((?:[^\\]|\\(?!\])))") + R"()(?<!\\)\\\])";
  any += R"(|(?<!\\|\d)\$()" + content(R"((?:\\[$]|[^\n$]))") + R"()(?<!\\)\$)";
  any += R"(|(?<!\\)\\\(()" + content(R"((?:[^\\\n]|\\(?!\))))") + R"()(?<!\\)\\\))";
  any += R"(|\s\[()" + content(R"([^\n\]\[])") + R"()\]\s)";
  if (!boxed) any += R"(|(-?\\frac{-?\d+(?:[.,]\d+)?}{-?\d+(?:[.,]\d+)?}))";
  return "(?:(?:" + any + ")\\s*" + kPercent + "?)";
}

std::string environments(bool boxed) {
  std::string all = environment(boxed);
  for (int i = 1; i < kEnvironments; ++i)
    all += std::string(boxed ? R"(\s*)" : "") + R"((?:\s*(?:,?and|,?or|,)\s*)" +
           environment(boxed) + ")?";
  return "(?:" + all + ")";
}

// What a pattern's groups hold.
enum class Found { formulas, boxed_formulas, box, arithmetic_or_number, arithmetic, number };

struct Rule {
  Rule(const std::string& expression, int priority, Found found)
      : pattern(expression, kMatchLimit), priority(priority), found(found) {}
  Pattern pattern;
  int priority;  // 0 first
  Found found;
};

void add_formula_rules(std::vector<Rule>& rules) {
  const std::string latex = environments(false), dot_all = "(?s)";
  rules.emplace_back(dot_all + R"((?i:final answer is)\:?\s*)" + latex + R"(\.?\s?I hope)", 0,
                     Found::formulas);
  rules.emplace_back(dot_all + R"((?i:final answer.{0,100}?)\s+is\:?\s*)" + latex, 50,
                     Found::formulas);
  rules.emplace_back(dot_all + "(?i:answer):.{0,50}?" + latex, 100, Found::formulas);
  rules.emplace_back(dot_all + "(?i:answer).{0,50}?" + latex, 200, Found::formulas);
  rules.emplace_back(dot_all + latex, 300, Found::formulas);
  rules.emplace_back(dot_all + environments(true), 50, Found::boxed_formulas);
  rules.emplace_back(dot_all + R"((\\boxed{.+}))", 50, Found::box);
}

void add_number_rules(std::vector<Rule>& rules) {
  const std::string number =
      R"((?<!\d)(?:(-?[1-9]\d{0,2}(?:[ ,]\d{3})+)(\.\d+)?|(-?\d+)([.,]\d+)|(\.\d+)|(-?\d+)))"
      R"((\s*(?:%|[Pp]ercent|\s*[Pp]ercentage|\s*[Pp]ct))?)";
  const std::string operators = R"(\+\-\*\×\/\^\(\)\÷)";
  const std::string characters = R"([\d\.\s)" + operators + "]";
  const std::string arithmetic =
      R"((-?\(?-?\d)" + characters + "*[" + operators + "]" + characters + R"(+\)?))";
  const std::string prefix = R"((?:^|\s|\=)(?:\*\*)?)";
  const std::string anchored = "(?:" + prefix + arithmetic + R"((?:\*\*)?(?:\.|,|:|\s|\)|\$|$)))";
  const std::string currency =
      "[$"
      "€£¥₹₽₪₩₫฿₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₴₵₶₷₸₹₺₻₼"
      "₽"
      "₾"
      "₿"
      "]";
  const std::string plain = "(?:" + prefix + currency + "?" + number + ")";
  const std::string either = "(?:" + anchored + "|" + plain + ")";
  rules.emplace_back(R"((?i:final answer is)\:?\s*)" + either + R"(\.?\s?I hope)", 0,
                     Found::arithmetic_or_number);
  rules.emplace_back(R"((?i:final answer.{0,100}?)\s+is\:?)" + either, 50,
                     Found::arithmetic_or_number);
  rules.emplace_back(R"((?i:answer):(?:.{0,100}=\s*|.{0,50}?))" + either + R"((?!\s*=))", 100,
                     Found::arithmetic_or_number);
  rules.emplace_back(R"((?i:answer)(?:.{0,100}=\s*|.{0,50}?))" + either + R"((?!\s*=))", 200,
                     Found::arithmetic_or_number);
  rules.emplace_back(anchored, 300, Found::arithmetic);
  rules.emplace_back(plain, 300, Found::number);
}

std::vector<Rule> make_rules(bool numbers) {
  std::vector<Rule> rules;
  add_formula_rules(rules);
  if (numbers) add_number_rules(rules);
  return rules;
}

// Delimiters opened after the last one closes begin no formula, yet each would be searched to the
// end of the text. They are put out of the patterns' sight.
std::string hide_open_delimiters(std::string text) {
  for (const auto& [open, close] : {std::pair{"\\(", "\\)"}, {"\\[", "\\]"}}) {
    const size_t last = text.rfind(close);
    for (size_t at = last == std::string::npos ? 0 : last + 2;
         (at = text.find(open, at)) != std::string::npos; at += 2)
      text.replace(at, 2, "\x01\x01");
  }
  return text;
}

struct Place {
  Pattern::Match match;
  Found found;
};

std::string group(const Pattern::Match& match, size_t i) {
  return i < match.groups.size() && match.groups[i] ? *match.groups[i] : std::string();
}

// Of a chain of equations that cannot be read, the last side.
std::string last_side(const std::string& formula) {
  if (formula.find(',') != std::string::npos || formula.find(';') != std::string::npos)
    return formula;
  static const Pattern equals(R"((?<!\\|\<|\!|\>)=)");
  const auto signs = equals.matches(formula);
  return signs.size() < 2 ? formula : formula.substr(signs.back().end);
}

Expression try_latex(const std::string& formula) {
  for (const std::string& text : {formula, last_side(formula)}) {
    try {
      return parse_latex(text);
    } catch (const Unparsable&) {
    }
  }
  return nullptr;
}

Extracted read_formulas(const Pattern::Match& match, bool boxed, bool box) {
  const size_t width = box ? 1 : boxed ? 6 : 7, count = box ? 1 : kEnvironments;
  std::vector<Expression> expressions;
  std::vector<std::string> texts;
  for (size_t i = 0; i < count; ++i) {
    std::string formula;
    for (size_t g = 0; g < (box ? 1 : width - 1) && formula.empty(); ++g)
      formula = group(match, i * width + g);
    if (formula.empty()) continue;
    texts.push_back(normalize_latex(formula, /*last_box=*/box));
    Expression expression = try_latex(texts.back());
    if (expression && !box && !group(match, i * width + width - 1).empty())
      expression = make(Kind::percent, {expression});
    expressions.push_back(std::move(expression));
  }
  if (texts.empty()) return {};
  const bool all = std::all_of(expressions.begin(), expressions.end(),
                               [](const Expression& e) { return e != nullptr; });
  if (expressions.size() == 1 || !all) return {expressions[0], texts[0]};
  std::vector<Expression> elements;
  std::string joined;
  for (size_t i = 0; i < texts.size(); ++i) {
    joined += (i > 0 ? " and " : "") + texts[i];
    if (expressions[i]->kind == Kind::set) {
      elements.insert(elements.end(), expressions[i]->args.begin(), expressions[i]->args.end());
    } else {
      elements.push_back(expressions[i]);
    }
  }
  return {make_set(std::move(elements)), joined};
}

// Groups: whole and decimals, whole and decimals, decimals alone, whole alone, percent.
Extracted read_number(const Pattern::Match& match, size_t first) {
  std::string whole, decimals;
  for (const size_t i : {0, 2, 5})
    if (whole.empty()) whole = group(match, first + i);
  for (const size_t i : {1, 3, 4})
    if (decimals.empty()) decimals = group(match, first + i);
  std::erase_if(whole, [](char c) { return c == ',' || c == ' '; });
  const size_t begin = std::min(whole.find_first_not_of('0'), whole.size());
  whole = begin == whole.size() ? "0" : whole.substr(begin);
  std::replace(decimals.begin(), decimals.end(), ',', '.');
  const bool negative = whole.starts_with('-');
  const auto number = parse_number(whole.substr(negative ? 1 : 0) + decimals);
  if (!number) return {nullptr, whole + decimals};
  Expression value = make_number(negative ? negated(*number) : *number);
  if (!group(match, first + 6).empty()) value = make(Kind::percent, {value});
  return {value, whole + decimals};
}

Extracted read_arithmetic(const std::string& text) {
  try {
    return {parse_arithmetic(python::replace(python::replace(text, "\n", " "), "^", "**")), text};
  } catch (const Unparsable&) {
    return {nullptr, text};
  }
}

Extracted read(const Place& place) {
  switch (place.found) {
    case Found::formulas:
      return read_formulas(place.match, false, false);
    case Found::boxed_formulas:
      return read_formulas(place.match, true, false);
    case Found::box:
      return read_formulas(place.match, true, true);
    case Found::arithmetic:
      return read_arithmetic(group(place.match, 0));
    case Found::number:
      return read_number(place.match, 0);
    case Found::arithmetic_or_number:
      return group(place.match, 0).empty() ? read_number(place.match, 1)
                                           : read_arithmetic(group(place.match, 0));
  }
  return {};
}

std::vector<Place> places_of(const std::vector<Rule>& rules, int priority,
                             const std::string& text) {
  std::vector<Place> places;
  const bool has_box = text.find("\\boxed{") != std::string::npos;
  for (const Rule& rule : rules) {
    const bool for_boxes = rule.found == Found::boxed_formulas || rule.found == Found::box;
    if (rule.priority != priority || (for_boxes && !has_box)) continue;
    try {
      for (Pattern::Match& match : rule.pattern.matches(text))
        places.push_back({std::move(match), rule.found});
    } catch (const Error&) {
      // A text on which a pattern exceeds its limits has no answer by that pattern.
    }
  }
  std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    return a.match.end != b.match.end ? a.match.end > b.match.end : a.match.begin < b.match.begin;
  });
  return places;
}

}  // namespace

Extracted extract_answer(const std::string& response, bool plain_numbers) {
  static const std::vector<Rule> formulas = make_rules(false), all = make_rules(true);
  const std::vector<Rule>& rules = plain_numbers ? all : formulas;
  const std::string text = hide_open_delimiters(response);
  Extracted result;
  for (const int priority : {0, 50, 100, 200, 300}) {
    for (const Place& place : places_of(rules, priority, text)) {
      Extracted found = read(place);
      if (result.text.empty()) result.text = std::move(found.text);
      if (found.expression) {
        result.expression = std::move(found.expression);
        return result;
      }
    }
  }
  return result;
}

}  // namespace narrow::evaluate::math
