#include "text/bert_text.h"

#include <utf8proc.h>

#include <cstdlib>

#include "base/error.h"

namespace narrow::text {
namespace {

// Calls each(code_point, bytes) for every character.
template <class Each>
void for_each_character(std::string_view text, Each each) {
  while (!text.empty()) {
    utf8proc_int32_t code_point;
    const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                         static_cast<utf8proc_ssize_t>(text.size()), &code_point);
    if (length <= 0) throw Error::failed("text is not UTF-8");
    each(code_point, text.substr(0, static_cast<size_t>(length)));
    text.remove_prefix(static_cast<size_t>(length));
  }
}

bool is_control(int32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
      return true;
    default:
      return false;
  }
}

bool is_ideograph(int32_t c) {
  // The last but two begins at 2B920 in Hugging Face's list, where BERT's own has 2B820.
  constexpr int32_t kRanges[][2] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                    {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF},
                                    {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
  for (const auto& [first, last] : kRanges)
    if (c >= first && c <= last) return true;
  return false;
}

bool is_punctuation(int32_t c) {
  if (c < 0x80)
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  const auto category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

std::string to_nfd(const std::string& text) {
  utf8proc_uint8_t* decomposed = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &decomposed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE));
  if (length < 0) throw Error::failed(std::string("NFD: ") + utf8proc_errmsg(length));
  std::string result(reinterpret_cast<char*>(decomposed), static_cast<size_t>(length));
  std::free(decomposed);
  return result;
}

void append(std::string& text, int32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const auto size = utf8proc_encode_char(code_point, bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
}

}  // namespace

bool is_white_space(int32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

size_t blank_length(std::string_view text) {
  utf8proc_int32_t code_point;
  const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                       static_cast<utf8proc_ssize_t>(text.size()), &code_point);
  return length > 0 && is_white_space(code_point) ? static_cast<size_t>(length) : 0;
}

std::string bert_clean(std::string_view text, const BertCleaning& cleaning) {
  std::string result;
  for_each_character(text, [&](int32_t c, std::string_view bytes) {
    if (cleaning.clean_text) {
      if (c == 0 || c == 0xFFFD || is_control(c)) return;
      if (is_white_space(c)) bytes = " ";
    }
    if (cleaning.handle_chinese_chars && is_ideograph(c)) {
      result.append(" ").append(bytes).append(" ");
    } else {
      result += bytes;
    }
  });
  if (cleaning.strip_accents) {
    std::string stripped;
    for_each_character(to_nfd(result), [&](int32_t c, std::string_view bytes) {
      if (utf8proc_category(c) != UTF8PROC_CATEGORY_MN) stripped += bytes;
    });
    result = std::move(stripped);
  }
  if (cleaning.lowercase) {
    std::string lower;
    for_each_character(result, [&](int32_t c, std::string_view) {
      // The only character whose lower case is two.
      if (c == 0x130) {
        lower += "i\xCC\x87";
      } else {
        append(lower, utf8proc_tolower(c));
      }
    });
    result = std::move(lower);
  }
  return result;
}

std::vector<std::string> bert_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  const auto finish = [&] {
    if (!word.empty()) words.push_back(std::move(word));
    word.clear();
  };
  for_each_character(text, [&](int32_t c, std::string_view bytes) {
    if (is_white_space(c)) {
      finish();
    } else if (is_punctuation(c)) {
      finish();
      words.emplace_back(bytes);
    } else {
      word += bytes;
    }
  });
  finish();
  return words;
}

}  // namespace narrow::text
