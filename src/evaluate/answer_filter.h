// From a response to an answer: the steps of a filter, as a task file writes them and as
// lm-evaluation-harness applies them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "evaluate/filter.h"

namespace narrow::evaluate {

struct FilterStep {
  enum class Kind {
    match,   // a match of the pattern, or kNoAnswer
    choice,  // the same, and without one the choice of the document that the text names: its letter
             // as "(B)", found by the choice's text, then by a letter behind a colon
    strip,   // blanks at both ends go
  };
  Kind kind = Kind::match;
  std::optional<Pattern> pattern;  // of match and choice
  int index = 0;                   // which match: 0 the first, -1 the last
  // Of choice: what the search for its text ignores; punctuation is all of Unicode's.
  std::vector<Pattern> ignore;
  bool ignore_case = false, ignore_punctuation = false;
};

struct Filter {
  std::string name;  // "strict-match"
  std::vector<FilterStep> steps;
  int64_t take = 0;   // only the first so many responses count; 0: all
  bool vote = false;  // they give one answer, their most frequent, of equals the earliest

  // document: a step `choice` reads its "choices", a list of texts, and throws Error::refused where
  // it has none.
  std::string answer(const std::string& response, const Json& document) const;
  // Those whose mean score is the document's, in the responses' order.  REQUIRES: a response.
  std::vector<std::string> answers(const std::vector<std::string>& responses,
                                   const Json& document) const;
};

// `rule` is a step or a list of them. A step: {first: PATTERN}, {last: PATTERN}, {strip: true},
// {choice: {first or last, ignore, ignore_case, ignore_punctuation}}, or in front {take: COUNT}, or
// behind all others {vote: true}. Throws Error::refused for anything else.
Filter read_filter(const std::string& name, const Json& rule, const std::string& where);

}  // namespace narrow::evaluate
