// From a generated text to an answer, and from an answer to a score, as lm-evaluation-harness does.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace narrow::evaluate {

// A regular expression as Python's re reads it (PCRE2 with UTF and Unicode classes). Immutable;
// threads may share one.
class Pattern {
 public:
  // Steps of matching after which find_all and its like give up with Error::failed.
  static constexpr uint32_t kMatchLimit = 10'000'000;

  // Throws Error::refused when it does not compile.
  explicit Pattern(const std::string& expression, uint32_t match_limit = kMatchLimit);
  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) noexcept;
  ~Pattern();

  // re.findall: each match's first group that is not empty, or the whole match without groups.
  std::vector<std::string> find_all(const std::string& text) const;
  // re.sub(pattern, "", text).
  std::string remove_all(const std::string& text) const;
  // re.sub(pattern, replacement, text): \1 … \9 are groups, \0 is the whole match.
  std::string replace_all(const std::string& text, std::string_view replacement) const;
  // re.finditer. Offsets are in bytes of `text`.  REQUIRES: valid UTF-8.
  struct Match {
    size_t begin, end;
    std::vector<std::optional<std::string>> groups;  // without the whole match
  };
  std::vector<Match> matches(const std::string& text) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

inline constexpr const char* kNoAnswer = "[invalid]";

// RegexFilter: the match at `index` (0 first, -1 last), or "[invalid]".
std::string extract(const Pattern& pattern, int index, const std::string& text);

// str.strip() for ASCII blanks.
std::string stripped(const std::string& text);

// exact_match: both sides stripped of the patterns, then of case, then of ASCII punctuation.
struct ExactMatch {
  std::vector<Pattern> ignore;
  bool ignore_case = false;
  bool ignore_punctuation = false;
  bool matches(std::string answer, std::string target) const;
};

}  // namespace narrow::evaluate
