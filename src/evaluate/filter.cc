#include "evaluate/filter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "text/utf8.h"

namespace narrow::evaluate {
struct Pattern::State {
  State(const std::string& expression, uint32_t match_limit) {
    int code_number = 0;
    size_t offset = 0;
    code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                         PCRE2_UTF | PCRE2_UCP, &code_number, &offset, nullptr);
    if (!code)
      throw Error::refused("the regular expression does not compile at " + std::to_string(offset),
                           expression);
    context = pcre2_match_context_create(nullptr);
    pcre2_set_match_limit(context, match_limit);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }

  // Calls match(ovector, groups) for each match, as re.finditer walks.
  template <class Match>
  void for_each(const std::string& text, Match match) const {
    // Of each call its own, so that threads may share a pattern.
    const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> owner(
        pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free);
    pcre2_match_data* data = owner.get();
    for (size_t at = 0; at <= text.size();) {
      const int groups = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                     at, PCRE2_NO_UTF_CHECK, data, context);
      if (groups == PCRE2_ERROR_NOMATCH) return;
      if (groups < 0) throw Error::failed("a regular expression exceeds its limits on an answer");
      const size_t* span = pcre2_get_ovector_pointer(data);
      const size_t begin = span[0], end = span[1];
      match(span, groups);
      at = end > begin
               ? end
               : end + std::max<size_t>(1, text::character_length(std::string_view(text).substr(
                                               std::min(end, text.size()))));
    }
  }

  pcre2_code* code;
  pcre2_match_context* context;
};

Pattern::Pattern(const std::string& expression, uint32_t match_limit)
    : state_(std::make_unique<State>(expression, match_limit)) {}
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;
Pattern::~Pattern() = default;

std::vector<std::string> Pattern::find_all(const std::string& raw) const {
  const std::string text = text::repair(raw);
  std::vector<std::string> found;
  uint32_t captures = 0;
  pcre2_pattern_info(state_->code, PCRE2_INFO_CAPTURECOUNT, &captures);
  state_->for_each(text, [&](const size_t* span, int groups) {
    const auto part = [&](int g) {
      return g < groups && span[2 * g] != PCRE2_UNSET
                 ? text.substr(span[2 * g], span[2 * g + 1] - span[2 * g])
                 : std::string();
    };
    std::string match = part(captures == 0 ? 0 : 1);
    for (int g = 2; match.empty() && g <= static_cast<int>(captures); ++g) match = part(g);
    found.push_back(std::move(match));
  });
  return found;
}

std::string Pattern::remove_all(const std::string& raw) const {
  const std::string text = text::repair(raw);
  std::string kept;
  size_t last = 0;
  state_->for_each(text, [&](const size_t* span, int) {
    kept.append(text, last, span[0] - last);
    last = span[1];
  });
  return kept.append(text, last);
}

std::vector<Pattern::Match> Pattern::matches(const std::string& text) const {
  std::vector<Match> found;
  uint32_t captures = 0;
  pcre2_pattern_info(state_->code, PCRE2_INFO_CAPTURECOUNT, &captures);
  state_->for_each(text, [&](const size_t* span, int groups) {
    Match match{span[0], span[1], {}};
    for (uint32_t g = 1; g <= captures; ++g) {
      const bool set = g < static_cast<uint32_t>(groups) && span[2 * g] != PCRE2_UNSET;
      match.groups.push_back(
          set ? std::optional(text.substr(span[2 * g], span[2 * g + 1] - span[2 * g]))
              : std::nullopt);
    }
    found.push_back(std::move(match));
  });
  return found;
}

std::string Pattern::replace_all(const std::string& raw, std::string_view replacement) const {
  const std::string text = text::repair(raw);
  std::string result;
  size_t last = 0;
  state_->for_each(text, [&](const size_t* span, int groups) {
    result.append(text, last, span[0] - last);
    for (size_t i = 0; i < replacement.size(); ++i) {
      if (replacement[i] != '\\' || i + 1 == replacement.size()) {
        result += replacement[i];
        continue;
      }
      const int g = replacement[++i] - '0';
      if (g < 0 || g > 9) {
        result += replacement[i];
      } else if (g < groups && span[2 * g] != PCRE2_UNSET) {
        result.append(text, span[2 * g], span[2 * g + 1] - span[2 * g]);
      }
    }
    last = span[1];
  });
  return result.append(text, last);
}

std::string extract(const Pattern& pattern, int index, const std::string& text) {
  const auto found = pattern.find_all(text);
  if (found.empty()) return kNoAnswer;
  return stripped(index < 0 ? found.back() : found.front());
}

std::string stripped(const std::string& text) {
  const auto blank = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  const auto begin = std::find_if_not(text.begin(), text.end(), blank);
  const auto end = std::find_if_not(text.rbegin(), text.rend(), blank).base();
  return begin < end ? std::string(begin, end) : "";
}

bool ExactMatch::matches(std::string answer, std::string target) const {
  for (const Pattern& pattern : ignore) {
    answer = pattern.remove_all(answer);
    target = pattern.remove_all(target);
  }
  if (ignore_case) {
    const auto lower = [](std::string& text) {
      for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    };
    lower(answer);
    lower(target);
  }
  if (ignore_punctuation)
    for (std::string* text : {&answer, &target})
      std::erase_if(*text, [](char c) { return std::ispunct(static_cast<unsigned char>(c)) != 0; });
  return answer == target;
}

}  // namespace narrow::evaluate
