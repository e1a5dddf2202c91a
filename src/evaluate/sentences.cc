#include "evaluate/sentences.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/data_files.h"
#include "base/error.h"
#include "base/file.h"
#include "evaluate/filter.h"
#include "evaluate/python_text.h"

namespace narrow::evaluate {
namespace {

// Orthographic contexts in which a word was seen: bit 1 to 3 upper case at the beginning, in the
// middle, at an unknown place of a sentence; bit 4 to 6 lower case there.
constexpr int kMiddleUpper = 1 << 2, kBeginLower = 1 << 4;
constexpr int kUpper = 0b1110, kLower = 0b1110000;

constexpr int64_t kParameterLimitBytes = 16 << 20;

struct Parameters {
  std::unordered_set<std::string> abbreviations, starters;
  std::set<std::pair<std::string, std::string>> collocations;
  std::unordered_map<std::string, int> contexts;

  int context(const std::string& word) const {
    const auto found = contexts.find(word);
    return found == contexts.end() ? 0 : found->second;
  }
};

Parameters load_parameters() {
  const auto path = data_folder("tasks") / "checkers" / "punkt_english.txt.gz";
  const auto lines = python::split(read_text_maybe_gz(path, kParameterLimitBytes), "\n");
  Parameters parameters;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const auto fields = python::split(lines[i], "\t");
    const std::string& kind = fields[0];
    int bits = 0;
    if (kind == "abbreviation" && fields.size() == 2) {
      parameters.abbreviations.insert(fields[1]);
    } else if (kind == "starter" && fields.size() == 2) {
      parameters.starters.insert(fields[1]);
    } else if (kind == "collocation" && fields.size() == 3) {
      parameters.collocations.emplace(fields[1], fields[2]);
    } else if (kind == "context" && fields.size() == 3 &&
               std::from_chars(fields[2].data(), fields[2].data() + fields[2].size(), bits).ec ==
                   std::errc()) {
      parameters.contexts[fields[1]] = bits;
    } else {
      throw Error::refused("not a parameter of punkt",
                           path.string() + ", line " + std::to_string(i + 1),
                           "make it again with scripts/make_checker_data.py");
    }
  }
  return parameters;
}

const Parameters& parameters() {
  static const Parameters loaded = load_parameters();
  return loaded;
}

// Characters that no word contains, and punctuation of several characters.
#define NON_WORD R"re((?:[)";}\]\*:@\'\({\[\x{2018}\x{2019}\x{201c}\x{201d}\x{ab}\x{bb}?!]))re"
#define MULTI_CHAR R"((?:\-{2,}|\.{2,}|(?:\.\s){2,}\.))"

struct Patterns {
  Pattern word{"(" MULTI_CHAR R"(|(?=[^\(\"\`{\[:;&\#\*@\)}\]\-,])\S+?(?=\s|$|)" NON_WORD
               "|" MULTI_CHAR R"(|,(?=$|\s|)" NON_WORD "|" MULTI_CHAR R"())|\S))"};
  // A character that may end a sentence, what follows it, and the next token if white space does.
  Pattern end{R"([.?!](?=()" NON_WORD R"(|\s+(\S+))))"};
  // Closing punctuation that belongs to the sentence before it.
  Pattern closing{
      R"((?m)\A["')\]}\x{2018}\x{2019}\x{201c}\x{201d}\x{ab}\x{bb}]+?(?:\s+|(?=--)|$))"};
  Pattern number{R"(^-?[\.,]?\d[\d,\.-]*\.?$)"};
  Pattern initial{R"(\A[^\W\d]\.$)"};
  Pattern ellipsis{R"(\A\.\.+$)"};
};
#undef NON_WORD
#undef MULTI_CHAR

const Patterns& patterns() {
  static const Patterns compiled;
  return compiled;
}

bool found(const Pattern& pattern, const std::string& text) {
  return !pattern.matches(text).empty();
}

struct Token {
  explicit Token(std::string word)
      : text(std::move(word)),
        type(patterns().number.replace_all(python::lower(text), "##number##")),
        period_final(text.ends_with('.')),
        initial(found(patterns().initial, text)) {
    const auto codes = python::code_points(text);
    first_upper = python::is_upper(codes[0]);
    first_lower = python::is_lower(codes[0]);
    annotate_by_type();
  }

  std::string type_without_period() const {
    return type.size() > 1 && type.back() == '.' ? type.substr(0, type.size() - 1) : type;
  }
  std::string type_without_sentence_period() const {
    return sentence_break ? type_without_period() : type;
  }

  std::string text, type;
  bool period_final, initial;
  bool first_upper = false, first_lower = false;
  bool sentence_break = false, abbreviation = false, ellipsis = false;

 private:
  // The first pass of Kiss and Strunk: a decision from the word alone.
  void annotate_by_type() {
    if (text == "." || text == "?" || text == "!") {
      sentence_break = true;
    } else if (found(patterns().ellipsis, text)) {
      ellipsis = true;
    } else if (period_final && !text.ends_with("..")) {
      const std::string word = python::lower(text.substr(0, text.size() - 1));
      const auto& known = parameters().abbreviations;
      abbreviation = known.contains(word) || known.contains(python::split(word, "-").back());
      sentence_break = !abbreviation;
    }
  }
};

enum class Starts { yes, no, unknown };

Starts starts_sentence(const Token& token) {
  static const std::unordered_set<std::string> kPunctuation{";", ":", ",", ".", "!", "?"};
  if (kPunctuation.contains(token.text)) return Starts::no;
  const int context = parameters().context(token.type_without_sentence_period());
  if (token.first_upper && (context & kLower) && !(context & kMiddleUpper)) return Starts::yes;
  if (token.first_lower && ((context & kUpper) || !(context & kBeginLower))) return Starts::no;
  return Starts::unknown;
}

// The second pass: a decision from the word and the one after it.
void annotate_by_context(Token& token, const Token& next) {
  if (!token.period_final) return;
  const std::string type = token.type_without_period();
  const std::string next_type = next.type_without_sentence_period();
  if (parameters().collocations.contains({type, next_type})) {
    token.sentence_break = false;
    token.abbreviation = true;
    return;
  }
  const Starts next_starts = starts_sentence(next);
  if ((token.abbreviation || token.ellipsis) && !token.initial) {
    if (next_starts == Starts::yes ||
        (next.first_upper && parameters().starters.contains(next_type))) {
      token.sentence_break = true;
      return;
    }
  }
  if (!token.initial && type != "##number##") return;
  if (next_starts == Starts::no ||
      (next_starts == Starts::unknown && token.initial && next.first_upper &&
       !(parameters().context(next_type) & kLower))) {
    token.sentence_break = false;
    token.abbreviation = true;
  }
}

// Whether a sentence ends in `context` before its last token.
bool contains_break(const std::string& context) {
  std::vector<Token> tokens;
  for (const std::string& line : python::split(context, "\n")) {
    if (python::strip(line).empty()) continue;
    for (std::string& word : patterns().word.find_all(line)) tokens.emplace_back(std::move(word));
  }
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    annotate_by_context(tokens[i], tokens[i + 1]);
    if (tokens[i].sentence_break) return true;
  }
  return false;
}

struct Span {
  size_t begin, end;
};

// A place where a sentence may end: the character, the word before it, what follows.
struct Candidate {
  Pattern::Match match;
  Span word;
};

std::vector<Candidate> candidates(const std::string& text) {
  std::vector<Candidate> kept;
  Span previous{0, 0};
  for (Pattern::Match& match : patterns().end.matches(text)) {
    const auto before = std::string_view(text).substr(previous.end, match.begin - previous.end);
    const size_t space = before.find_last_of(" \t\n\r\v\f");
    // A blank at the very front counts as none, as in NLTK.
    const size_t begin =
        space == std::string_view::npos || space == 0 ? previous.begin : previous.end + space + 1;
    // Of overlapping candidates ("acting!!!") the last one counts.
    if (!kept.empty() && previous.end > begin) kept.pop_back();
    previous = {begin, match.begin};
    kept.push_back({std::move(match), previous});
  }
  return kept;
}

std::vector<Span> raw_sentences(const std::string& text) {
  std::vector<Span> spans;
  size_t begin = 0;
  for (const Candidate& candidate : candidates(text)) {
    const Pattern::Match& match = candidate.match;
    const std::string context =
        text.substr(candidate.word.begin, match.end - candidate.word.begin) +
        match.groups[0].value();
    if (!contains_break(context)) continue;
    spans.push_back({begin, match.end});
    begin = match.end;
    if (match.groups[1]) begin += match.groups[0]->size() - match.groups[1]->size();
  }
  spans.push_back({begin, python::strip_right(text).size()});
  return spans;
}

}  // namespace

std::vector<std::string> sentences(const std::string& text) {
  const auto part = [&](Span span) {
    return span.begin < span.end ? text.substr(span.begin, span.end - span.begin) : std::string();
  };
  const std::vector<Span> spans = raw_sentences(text);
  std::vector<std::string> result;
  size_t moved = 0;  // bytes of this sentence that went to the one before
  for (size_t i = 0; i < spans.size(); ++i) {
    Span span{spans[i].begin + moved, spans[i].end};
    moved = 0;
    if (i + 1 < spans.size()) {
      const auto closing = patterns().closing.matches(part(spans[i + 1]));
      if (!closing.empty()) {
        moved = closing[0].end;
        span.end =
            spans[i + 1].begin +
            python::strip_right(std::string_view(text).substr(spans[i + 1].begin, moved)).size();
        result.push_back(part(span));
        continue;
      }
    }
    if (std::string sentence = part(span); !sentence.empty()) result.push_back(std::move(sentence));
  }
  return result;
}

}  // namespace narrow::evaluate
