#include "evaluate/math_normalize.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "evaluate/filter.h"
#include "evaluate/python_text.h"
#include "text/utf8.h"

namespace narrow::evaluate::math {
namespace {

using Replacement = std::pair<const char*, const char*>;

struct Rule {
  Pattern pattern;
  const char* replacement;
};

std::string apply(const std::vector<Rule>& rules, std::string text) {
  for (const Rule& rule : rules) text = rule.pattern.replace_all(text, rule.replacement);
  return text;
}

// ---- Minerva

constexpr Replacement kSubstitutions[] = {{"an ", ""},          {"a ", ""},
                                          {".$", "$"},          {"\\$", ""},
                                          {"\\ ", ""},          {" ", ""},
                                          {"mbox", "text"},     {",\\text{and}", ","},
                                          {"\\text{and}", ","}, {"\\text{m}", "\\text{}"}};

constexpr const char* kRemoved[] = {"square",       "ways",
                                    "integers",     "dollars",
                                    "mph",          "inches",
                                    "ft",           "hours",
                                    "km",           "units",
                                    "\\ldots",      "sue",
                                    "points",       "feet",
                                    "minutes",      "digits",
                                    "cents",        "degrees",
                                    "cm",           "gm",
                                    "pounds",       "meters",
                                    "meals",        "edges",
                                    "students",     "childrentickets",
                                    "multiples",    "\\text{s}",
                                    "\\text{.}",    "\\text{\ns}",
                                    "\\text{}^2",   "\\text{}^3",
                                    "\\text{\n}",   "\\text{}",
                                    "\\mathrm{th}", "^\\circ",
                                    "^{\\circ}",    "\\;",
                                    ",\\!",         "{,}",
                                    "\"",           "\\dots"};

std::vector<Rule> minerva_rules() {
  std::vector<Rule> rules;
  rules.push_back({Pattern(R"((.*?)(\$)(.*?)(\$)(.*))"), R"($\3$)"});
  rules.push_back({Pattern(R"((\\text\{)(.*?)(\}))"), R"(\2)"});
  rules.push_back({Pattern(R"((\\textbf\{)(.*?)(\}))"), R"(\2)"});
  rules.push_back({Pattern(R"((\\overline\{)(.*?)(\}))"), R"(\2)"});
  rules.push_back({Pattern(R"((\\boxed\{)(.*)(\}))"), R"(\2)"});
  rules.push_back({Pattern(R"((frac)([^{])(.))"), R"(frac{\2}{\3})"});
  rules.push_back({Pattern(R"((sqrt)([^{]))"), R"(sqrt{\2})"});
  return rules;
}

// ---- math-verify

// The units of latex2sympy2_extended's table, in its order.
constexpr const char* kUnits[] = {"integerpoint",
                                  "feet",
                                  "sue",
                                  "digit",
                                  "pound",
                                  "meal",
                                  "edge",
                                  "student",
                                  "children ticket",
                                  "multiple",
                                  "east",
                                  "degree",
                                  "mph",
                                  "kmph",
                                  "ft",
                                  "m square",
                                  " m east",
                                  "sq m",
                                  "deg",
                                  "mile",
                                  "q .",
                                  "monkey",
                                  "prime",
                                  "ratio",
                                  "profit of rs",
                                  "rd",
                                  "o",
                                  "gm",
                                  "p . m",
                                  "lb",
                                  "tile",
                                  "per",
                                  "dm",
                                  "lt",
                                  "gain",
                                  "ab",
                                  "way",
                                  "west",
                                  "a .",
                                  "b .",
                                  "c .",
                                  "d .",
                                  "e .",
                                  "f .",
                                  "g .",
                                  "h .",
                                  "t",
                                  "h",
                                  "no change",
                                  "men",
                                  "soldier",
                                  "pie",
                                  "bc",
                                  "excess",
                                  "st",
                                  "inches",
                                  "noon",
                                  "cent",
                                  "by",
                                  "gal",
                                  "kmh",
                                  "c",
                                  "acre",
                                  "rise",
                                  "a . m",
                                  "th",
                                  "π r 2",
                                  "sq",
                                  "mark",
                                  "l",
                                  "toy",
                                  "coin",
                                  "sq . m",
                                  "gallon",
                                  "° f",
                                  "profit",
                                  "minw",
                                  "yr",
                                  "women",
                                  "am",
                                  "pm",
                                  "hr",
                                  "cu cm",
                                  "square",
                                  "v â € ™",
                                  "are",
                                  "rupee",
                                  "rounds",
                                  "cubic",
                                  "cc",
                                  "mtr",
                                  "s",
                                  "ohm",
                                  "number",
                                  "kmph",
                                  "day",
                                  "hour",
                                  "minute",
                                  "min",
                                  "second",
                                  "man",
                                  "woman",
                                  "sec",
                                  "cube",
                                  "mt",
                                  "sq inch",
                                  "mp",
                                  "∏ cm ³",
                                  "hectare",
                                  "more",
                                  "sec",
                                  "unit",
                                  "cu . m",
                                  "cm 2",
                                  "rs .",
                                  "rs",
                                  "kg",
                                  "g",
                                  "month",
                                  "km",
                                  "m",
                                  "cm",
                                  "mm",
                                  "apple",
                                  "liter",
                                  "loss",
                                  "yard",
                                  "pure",
                                  "year",
                                  "increase",
                                  "decrease",
                                  "d",
                                  "less",
                                  "Surface",
                                  "litre",
                                  "pi sq m",
                                  "s .",
                                  "metre",
                                  "meter",
                                  "inch"};

std::string units_expression() {
  std::string any;
  for (const char* unit : kUnits) any += (any.empty() ? "" : "|") + std::string(unit);
  return R"((\d|\}|\s)\s*(?:(?:)" + any + R"()(?:s|es)?)\s*$)";
}

// One pass over many alternatives: the first that matches at a place is replaced.
struct Alternatives {
  explicit Alternatives(const std::vector<Replacement>& table) : pattern(joined(table)) {
    for (const Replacement& row : table) replacements.emplace_back(row.second);
  }
  static std::string joined(const std::vector<Replacement>& table) {
    std::string any;
    for (const Replacement& row : table)
      any += (any.empty() ? "(" : "|(") + std::string(row.first) + ")";
    return any;
  }
  std::string replace(const std::string& text) const {
    std::string result;
    size_t last = 0;
    for (const Pattern::Match& match : pattern.matches(text)) {
      result.append(text, last, match.begin - last);
      for (size_t i = 0; i < replacements.size(); ++i)
        if (match.groups[i]) result += replacements[i];
      last = match.end;
    }
    return result.append(text, last);
  }

  Pattern pattern;
  std::vector<std::string> replacements;
};

const Alternatives& synonyms() {
  // Groups inside the alternatives are not captured, so that group i is row i.
  static const Alternatives table({{R"(\\math(?:rm|it|bf))", "\\text"},
                                   {R"(\\text(?:normal|bf|it|rm))", "\\text"},
                                   {R"(\\(?:d|t|c)frac)", "\\frac"},
                                   {R"(\s\.)", " 0."},
                                   {R"(\{\.)", "{0."},
                                   {R"(\~\=)", "\\approx"},
                                   {R"(\s*\{\s*,\s*\})", ","},
                                   {R"((?<![a-zA-Z])(?:,?\s*(?:and|or))(?![a-zA-Z]))", ","},
                                   {R"((?:,?\s*\\text{\s*(?:and|or)\s*}))", ","},
                                   {R"((?<!\\)\\\s)", " "},
                                   {"infinity", "\\infty"},
                                   {R"(,?(?:\\ldots))", " "},
                                   {R"(\s*\bpercentage\b)", "\\%"},
                                   {R"(\\text{percentage})", "%"},
                                   {R"(\s*\bpercent\b)", "\\%"},
                                   {R"(\\text{percent})", "%"},
                                   {R"(\s*\bpct\b)", "\\%"},
                                   {R"(\\text{pct})", "%"},
                                   {R"((?:(?<!\\)inf(?!inity)))", "\\infty"},
                                   {" sqrt", "\\sqrt"}});
  return table;
}

std::vector<Rule> bracket_rules() {
  std::vector<Rule> rules;
  rules.push_back(
      {Pattern(
           R"(\\m?left(\\\{|\{|\\\||\||\[|\(|\\rbracl|\\lgroup|\\lbrace|\\lbrack|\\vert|\\lvert|)"
           R"(\\lceil|\\lfloor|\\langle|\\llcorner|\\ulcorner))"),
       R"(\1)"});
  rules.push_back(
      {Pattern(
           R"(\\m?right(\\\}|\}|\\\||\||\]|\)|\\rbrack|\\rgroup|\\rbrace|\\vert|\\rvert|\\rceil|)"
           R"(\\rfloor|\\rangle|\\lrcorner|\\urcorner))"),
       R"(\1)"});
  // Falling factorials: (n)_{k}.
  rules.push_back({Pattern(R"(\(([a-zA-Z0-9+\-*/\\ ]+?)\)_{([a-zA-Z0-9+\-*/\\ ]+?)})"),
                   R"(\\frac{(\1)!}{((\1)-(\2))!})"});
  rules.push_back(
      {Pattern(R"re(\\mathrm\{th\}|\\!\s*|\\text\s*\{\s*\}|\\\$|\$|(?<!\\)["\']|\\displaystyle)re"),
       ""});
  return rules;
}

std::vector<Rule> operator_rules() {
  std::vector<Rule> rules;
  const auto add = [&](const char* pattern, const char* replacement) {
    rules.push_back({Pattern(pattern), replacement});
  };
  add(R"(\^\s?\((.*?)\))", R"(^{\1})");
  add(R"(sqrt\s?\((.*?)\))", R"(\\sqrt{\1})");
  add(R"(\\frac\s?(\d)\s?(\d+))", R"(\\frac{\1}{\2})");
  add(R"(\\log_\s?(\d)\s?(\d+))", R"(\\log_{\1}{\2})");
  add(R"(\\frac\s?{(.*?)}\s?(\d))", R"(\\frac{\1}{\2})");
  add(R"(\\frac\s?(\d)\s?{(.*?)})", R"(\\frac{\1}{\2})");
  add(R"(\\sqrt\s?(\d))", R"(\\sqrt{\1})");
  return rules;
}

std::string first_character(std::string_view text) {
  return std::string(text.substr(0, text::character_length(text)));
}

std::string_view strip_left(std::string_view text) {
  const std::string_view stripped = python::strip(text);
  return stripped.empty() ? stripped
                          : text.substr(static_cast<size_t>(stripped.data() - text.data()));
}

// \sqrt3 → \sqrt{3}
std::string brace_roots(const std::string& text) {
  const auto parts = python::split(text, "\\sqrt");
  std::string result = parts[0];
  for (size_t i = 1; i < parts.size(); ++i) {
    std::string_view part = strip_left(parts[i]);
    result += "\\sqrt";
    if (!part.empty() && part[0] != '{' && part[0] != '[') {
      const std::string first = first_character(part);
      result += "{" + first + "}";
      part.remove_prefix(first.size());
    }
    result += part;
  }
  return result;
}

// \frac12 → \frac{1}{2}
std::string brace_fractions(const std::string& text) {
  const auto parts = python::split(text, "\\frac");
  std::string result = parts[0];
  for (size_t i = 1; i < parts.size(); ++i) {
    std::string_view part = strip_left(parts[i]);
    result += "\\frac";
    if (!part.empty() && part[0] == '{') {
      result += part;
      continue;
    }
    const std::string upper = first_character(part);
    const std::string lower = first_character(part.substr(upper.size()));
    if (lower.empty()) return text;
    result += "{" + upper + "}";
    result += lower == "{" ? lower : "{" + lower + "}";
    result += part.substr(upper.size() + lower.size());
  }
  return result;
}

// 3/4 → \frac{3}{4}, when that is all.
std::string slash_to_fraction(const std::string& text) {
  const auto parts = python::split(text, "/");
  if (parts.size() != 2) return text;
  static const Pattern integer(R"(^(?:0|-?[1-9][0-9]*)$)");
  for (const std::string& part : parts)
    if (integer.find_all(part).empty() || part.size() > 4000) return text;
  return "\\frac{" + parts[0] + "}{" + parts[1] + "}";
}

// ---- boxes

size_t closing_brace(std::string_view text, size_t open, size_t limit) {
  int64_t depth = 0;
  for (size_t i = open; i < limit; ++i) {
    if (text[i] == '{') ++depth;
    if (text[i] == '}' && --depth == 0) return i;
  }
  return std::string_view::npos;
}

// From right to left, every box, or only those that belong to the last one.
std::string box_contents(const std::string& text, bool last_only) {
  static const Pattern separator(R"(\b(and|or)\b|,|;)");
  std::vector<std::string> results;
  size_t before = text.size(), limit = text.size();
  size_t next_start = std::string::npos;
  while (before > 0) {
    const auto rfind = [&](std::string_view name) {
      return before < name.size() ? std::string::npos : text.rfind(name, before - name.size());
    };
    const size_t boxed = rfind("\\boxed"), fbox = rfind("\\fbox");
    if (boxed == std::string::npos && fbox == std::string::npos) break;
    const bool is_boxed = fbox == std::string::npos || (boxed != std::string::npos && boxed > fbox);
    const size_t start = is_boxed ? boxed : fbox;
    size_t open = start + (is_boxed ? 6 : 5);
    while (open < limit && python::is_space(static_cast<unsigned char>(text[open]))) ++open;
    if (open >= limit) break;
    const size_t close = text[open] == '{' ? closing_brace(text, open, limit) : std::string::npos;
    if (close == std::string::npos) {
      if (results.empty()) results.push_back(text.substr(open));
      break;
    }
    std::string content(python::strip(std::string_view(text).substr(open + 1, close - open - 1)));
    if (last_only && next_start != std::string::npos) {
      const std::string between =
          text.substr(close + 1, next_start > close ? next_start - close - 1 : 0);
      const size_t length = python::code_points(between).size();
      if (length >= 10 &&
          !(content != results.back() && length < 70 && !separator.find_all(between).empty()))
        break;
    }
    if (results.empty() || results.back() != content) results.push_back(std::move(content));
    next_start = limit = before = start;
  }
  if (results.empty()) return text;
  std::string joined;
  for (size_t i = results.size(); i-- > 0;) joined += results[i] + (i > 0 ? "," : "");
  return joined;
}

std::string strip_units(std::string text) {
  static const Pattern superscript(R"((\\(?:text|mbox){.*?})(\^\d|\{\^\d\})?$)");
  static const Pattern units(units_expression());
  const auto keep = [&](std::string candidate) {
    if (!candidate.empty() && candidate != text) text = std::move(candidate);
  };
  keep(std::string(python::strip(superscript.replace_all(text, ""))));
  for (int i = 0; i < 2; ++i) keep(units.replace_all(text, R"(\1)"));
  return text;
}

}  // namespace

std::string normalize_minerva(const std::string& answer) {
  static const std::vector<Rule> rules = minerva_rules();
  std::string text = python::split(answer, "=").back();
  for (const auto& [from, to] : kSubstitutions) text = python::replace(text, from, to);
  for (const char* removed : kRemoved) text = python::replace(text, removed, "");
  text = python::replace(apply(rules, std::move(text)), "$", "");
  const std::string digits = python::replace(text, ",", "");
  static const Pattern number(R"(^\d+$)");
  return number.find_all(digits).empty() ? text : digits;
}

std::string normalize_latex(const std::string& formula, bool last_box) {
  static const std::vector<Rule> brackets = bracket_rules(), operators = operator_rules();
  static const Pattern doubled(R"(\\\\(?=[a-zA-Z]))");
  std::string text = box_contents(formula, last_box);
  for (const auto& [from, to] : {Replacement{"\\mathrm{T}", "T"},
                                 {"\\mathrm{d}", "d"},
                                 {"{\\rm d}", "d"},
                                 {"\\left[\\begin{matrix}", "\\begin{bmatrix}"},
                                 {"\\end{matrix}\\right]", "\\end{bmatrix}"}})
    text = python::replace(text, from, to);
  text = synonyms().replace(apply(brackets, std::move(text)));
  text = python::replace(python::replace(text, "\n", " "), "\t", " ");
  if (text.find("matrix") == std::string::npos) text = doubled.replace_all(text, R"(\\)");
  text = strip_units(std::move(text));
  if (text.starts_with('.')) text = "0" + text;
  if (text == "0.5") text = "\\frac{1}{2}";
  text = python::replace(apply(operators, std::move(text)), " sqrt", "\\sqrt");
  text = slash_to_fraction(brace_fractions(brace_roots(text)));
  return std::string(python::strip(text));
}

std::string boxed_answer(const std::string& text) {
  static const std::string kInvalid = "[invalidanswer]";
  if (text.find("\\boxed ") != std::string::npos)
    return python::split(python::split(text, "\\boxed ").back(), "$")[0];
  size_t start = text.rfind("\\boxed");
  if (start == std::string::npos) start = text.rfind("\\fbox");
  if (start == std::string::npos) return kInvalid;
  const size_t close = closing_brace(text, start, text.size());
  const std::string_view box = std::string_view(text).substr(start);
  if (close == std::string::npos || !box.starts_with("\\boxed{")) return kInvalid;
  return text.substr(start + 7, close - start - 7);
}

}  // namespace narrow::evaluate::math
