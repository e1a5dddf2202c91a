#include "text/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "text/bert_text.h"
#include "text/utf8.h"

namespace narrow::text {
namespace {

// The pattern of GPT-2, which ByteLevel uses unless told otherwise.
constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Patterns come from model files: one that needs more than this for a match is refused.
constexpr uint32_t kMatchLimit = 1'000'000;

std::string replace_all(std::string text, const std::string& from, const std::string& to) {
  std::string result;
  size_t begin = 0;
  for (size_t at; (at = text.find(from, begin)) != std::string::npos; begin = at + from.size())
    result.append(text, begin, at - begin).append(to);
  return result.append(text, begin);
}

std::string literal_pattern(const std::string& text) {
  std::string pattern;
  for (char c : text) {
    if (static_cast<unsigned char>(c) < 0x80 && !std::isalnum(static_cast<unsigned char>(c)))
      pattern += '\\';
    pattern += c;
  }
  return pattern;
}

// "pattern": {"String": …} or {"Regex": …}, as a regular expression.
std::string pattern_of(const Json& config, const std::string& where) {
  const Json pattern = json_get<Json>(config, "pattern", where);
  if (pattern.contains("String"))
    return literal_pattern(json_get<std::string>(pattern, "String", where));
  return json_get<std::string>(pattern, "Regex", where);
}

class Regex {
 public:
  Regex(const std::string& pattern, const std::string& where) {
    int code = 0;
    size_t offset = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                          PCRE2_UTF | PCRE2_UCP, &code, &offset, nullptr);
    if (!code_)
      throw Error::refused("the pattern does not compile at " + std::to_string(offset), where);
    pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);
    context_ = pcre2_match_context_create(nullptr);
    pcre2_set_match_limit(context_, kMatchLimit);
  }
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;
  ~Regex() {
    pcre2_match_context_free(context_);
    pcre2_code_free(code_);
  }

  // Calls match(begin, end) for each match that is not empty, in order.
  template <class Match>
  void for_each(const std::string& text, Match match) const {
    const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
        pcre2_match_data_create_from_pattern(code_, nullptr), pcre2_match_data_free);
    for (size_t at = 0; at <= text.size();) {
      const int count = pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                    at, PCRE2_NO_UTF_CHECK, data.get(), context_);
      if (count == PCRE2_ERROR_NOMATCH) return;
      if (count < 0)
        throw Error::refused("the tokenizer's pattern exceeds its limits on this text");
      const size_t* span = pcre2_get_ovector_pointer(data.get());
      if (span[1] > span[0]) {
        match(span[0], span[1]);
        at = span[1];
      } else {
        at = span[1] + std::max<size_t>(1, character_length(std::string_view(text).substr(at)));
      }
    }
  }

 private:
  pcre2_code* code_;
  pcre2_match_context* context_;
};

}  // namespace

Normalizer::Normalizer(const Json& config, const std::string& where) {
  if (!config.is_null()) add(config, where);
}

void Normalizer::add(const Json& config, const std::string& where) {
  const auto type = json_get<std::string>(config, "type", where);
  if (type == "Sequence") {
    for (const Json& step : json_get<Json>(config, "normalizers", where)) add(step, where);
  } else if (type == "NFC") {
    steps_.push_back([](std::string text) { return to_nfc(text); });
  } else if (type == "BertNormalizer") {
    BertCleaning cleaning;
    cleaning.clean_text = json_get<bool>(config, "clean_text", where, true);
    cleaning.handle_chinese_chars = json_get<bool>(config, "handle_chinese_chars", where, true);
    cleaning.lowercase = json_get<bool>(config, "lowercase", where, true);
    cleaning.strip_accents = json_get<bool>(config, "strip_accents", where, cleaning.lowercase);
    steps_.push_back([cleaning](std::string text) { return bert_clean(text, cleaning); });
  } else if (type == "Prepend") {
    steps_.push_back([prefix = json_get<std::string>(config, "prepend", where)](std::string text) {
      return text.empty() ? text : prefix + text;
    });
  } else if (type == "Replace" && json_get<Json>(config, "pattern", where).contains("String")) {
    const auto from = json_get<std::string>(config["pattern"], "String", where);
    if (from.empty()) throw Error::refused("replaces the empty string", where);
    steps_.push_back([from, to = json_get<std::string>(config, "content", where)](
                         std::string text) { return replace_all(std::move(text), from, to); });
  } else {
    throw Error::refused("normalizer \"" + type + "\" is not supported", where);
  }
}

std::string Normalizer::apply(std::string text) const {
  for (const auto& step : steps_) text = step(std::move(text));
  return text;
}

struct PreTokenizer::Step {
  Step(const std::string& pattern, bool keep_gaps, bool keep_matches, const std::string& where)
      : regex(pattern, where), keep_gaps(keep_gaps), keep_matches(keep_matches) {}
  enum class Kind {
    regex,
    add_space,   // a word that does not begin with a space gets one
    bert_words,  // cut at blanks and punctuation
  };
  explicit Step(Kind kind) : kind(kind) {}

  Regex regex{"(?!)", ""};
  bool keep_gaps = true, keep_matches = true;
  Kind kind = Kind::regex;
};

PreTokenizer::PreTokenizer(const Json& config, const std::string& where) {
  if (!config.is_null()) add(config, where);
}
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

void PreTokenizer::add(const Json& config, const std::string& where) {
  const auto type = json_get<std::string>(config, "type", where);
  if (type == "Sequence") {
    for (const Json& step : json_get<Json>(config, "pretokenizers", where)) add(step, where);
  } else if (type == "ByteLevel") {
    byte_level_ = true;
    if (json_get<bool>(config, "add_prefix_space", where, true))
      steps_.push_back(std::make_unique<Step>(Step::Kind::add_space));
    if (json_get<bool>(config, "use_regex", where, true))
      steps_.push_back(std::make_unique<Step>(kGpt2Pattern, true, true, where));
  } else if (type == "BertPreTokenizer") {
    steps_.push_back(std::make_unique<Step>(Step::Kind::bert_words));
  } else if (type == "Digits") {
    const bool single = json_get<bool>(config, "individual_digits", where, false);
    steps_.push_back(std::make_unique<Step>(single ? R"(\p{N})" : R"(\p{N}+)", true, true, where));
  } else if (type == "Split") {
    const auto behavior = json_get<std::string>(config, "behavior", where);
    const bool invert = json_get<bool>(config, "invert", where, false);
    if (behavior != "Isolated" && behavior != "Removed")
      throw Error::refused("Split behavior \"" + behavior + "\" is not supported", where);
    const bool removed = behavior == "Removed";
    steps_.push_back(std::make_unique<Step>(pattern_of(config, where), !(removed && invert),
                                            !(removed && !invert), where));
  } else {
    throw Error::refused("pre-tokenizer \"" + type + "\" is not supported", where);
  }
}

std::vector<std::string> PreTokenizer::split(const std::string& text) const {
  std::vector<std::string> words;
  if (!text.empty()) words.push_back(text);
  for (const auto& step : steps_) {
    std::vector<std::string> cut;
    for (std::string& word : words) {
      if (step->kind == Step::Kind::add_space) {
        cut.push_back(word.front() == ' ' ? std::move(word) : " " + word);
        continue;
      }
      if (step->kind == Step::Kind::bert_words) {
        for (std::string& part : bert_words(word)) cut.push_back(std::move(part));
        continue;
      }
      size_t end_of_last = 0;
      step->regex.for_each(word, [&](size_t begin, size_t end) {
        if (step->keep_gaps && begin > end_of_last)
          cut.push_back(word.substr(end_of_last, begin - end_of_last));
        if (step->keep_matches) cut.push_back(word.substr(begin, end - begin));
        end_of_last = end;
      });
      if (step->keep_gaps && end_of_last < word.size()) cut.push_back(word.substr(end_of_last));
    }
    words = std::move(cut);
  }
  return words;
}

}  // namespace narrow::text
