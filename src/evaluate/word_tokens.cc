#include <string>
#include <vector>

#include "evaluate/filter.h"
#include "evaluate/python_text.h"
#include "evaluate/sentences.h"

namespace narrow::evaluate {
namespace {

struct Rule {
  Pattern pattern;
  const char* replacement;
};

// NLTKWordTokenizer: each rule puts blanks around what is a token of its own.
std::vector<Rule> opening_rules() {
  std::vector<Rule> rules;
  const auto add = [&](const char* pattern, const char* replacement) {
    rules.push_back({Pattern(pattern), replacement});
  };
  add(R"(([\x{ab}\x{201c}\x{2018}\x{201e}]|[`]+))", R"( \1 )");
  add(R"(^\")", "``");
  add(R"((``))", R"( \1 )");
  add(R"(([ \(\[{<])(\"|\'{2}))", R"(\1 `` )");
  add(R"((?i)(?<!\w)(\')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w))", R"(\1 )");
  add(R"re(([^\.])(\.)([\]\)}>"'\x{bb}\x{201d}\x{2019} ]*+)\s*$)re", R"(\1 \2 \3 )");
  add(R"(([:,])([^\d]))", R"( \1 \2)");
  add(R"(([:,])$)", R"( \1 )");
  add(R"(\.{2,})", R"( \0 )");
  add(R"([;@#$%&])", R"( \0 )");
  add(R"([\x{2012}-\x{2015}])", R"( \0 )");
  add(R"re(([^\.])(\.)([\]\)}>"\']*)\s*$)re", R"(\1 \2\3 )");
  add(R"([?!])", R"( \0 )");
  add(R"(([^'])' )", R"(\1 ' )");
  add(R"([*])", R"( \0 )");
  add(R"([\]\[\(\)\{\}\<\>])", R"( \0 )");
  add(R"(--)", R"( -- )");
  return rules;
}

std::vector<Rule> closing_rules() {
  std::vector<Rule> rules;
  const auto add = [&](const char* pattern, const char* replacement) {
    rules.push_back({Pattern(pattern), replacement});
  };
  add(R"(([\x{bb}\x{201d}\x{2019}]))", R"( \1 )");
  add(R"('')", R"( '' )");
  add(R"re(")re", R"( '' )");
  add(R"(\s+)", " ");
  add(R"(([^' ])('[sS]|'[mM]|'[dD]|') )", R"(\1 \2 )");
  add(R"(([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) )", R"(\1 \2 )");
  for (const char* contraction :
       {R"((?i)\b(can)(not)\b)", R"((?i)\b(d)('ye)\b)", R"((?i)\b(gim)(me)\b)",
        R"((?i)\b(gon)(na)\b)", R"((?i)\b(got)(ta)\b)", R"((?i)\b(lem)(me)\b)",
        R"((?i)\b(more)('n)\b)", R"((?i)\b(wan)(na)(?=\s))", R"((?i) ('t)(is)\b)",
        R"((?i) ('t)(was)\b)"})
    add(contraction, R"( \1 \2 )");
  return rules;
}

}  // namespace

std::vector<std::string> word_tokens(const std::string& text) {
  static const std::vector<Rule> opening = opening_rules(), closing = closing_rules();
  std::vector<std::string> tokens;
  for (std::string sentence : sentences(text)) {
    for (const Rule& rule : opening)
      sentence = rule.pattern.replace_all(sentence, rule.replacement);
    sentence = " " + sentence + " ";
    for (const Rule& rule : closing)
      sentence = rule.pattern.replace_all(sentence, rule.replacement);
    for (std::string& token : python::split(sentence)) tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace narrow::evaluate
