#include "text/utf8.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "base/error.h"

namespace narrow::text {
namespace {

// Length of the longest beginning of `text` that could start a character, and whether it is whole.
struct Prefix {
  size_t length;
  bool whole;
};

Prefix longest_prefix(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return {1, true};
  size_t length;
  uint8_t low = 0x80, high = 0xBF;  // bounds of the second byte: no overlong forms, no surrogates
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return {0, false};
  }
  for (size_t i = 1; i < length; ++i) {
    if (i >= text.size() || byte(i) < low || byte(i) > high) return {i, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true};
}

}  // namespace

size_t character_length(std::string_view text, bool* truncated) {
  if (truncated) *truncated = false;
  if (text.empty()) return 0;
  const Prefix prefix = longest_prefix(text);
  if (prefix.whole) return prefix.length;
  if (truncated) *truncated = prefix.length > 0 && prefix.length == text.size();
  return 0;
}

std::string repair(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const Prefix prefix = longest_prefix(text);
    if (prefix.whole) {
      result += text.substr(0, prefix.length);
    } else {
      result += kReplacement;
    }
    text.remove_prefix(std::max<size_t>(1, prefix.length));
  }
  return result;
}

bool is_valid(std::string_view text) {
  while (!text.empty()) {
    const size_t length = character_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string encode_utf8(uint32_t code_point) {
  if (!utf8proc_codepoint_valid(static_cast<utf8proc_int32_t>(code_point)))
    return std::string(kReplacement);
  utf8proc_uint8_t bytes[4];
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes);
  return std::string(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
}

std::string to_nfc(const std::string& text) {
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (length < 0) throw Error::failed(std::string("NFC: ") + utf8proc_errmsg(length));
  std::string result(reinterpret_cast<char*>(composed), static_cast<size_t>(length));
  std::free(composed);
  return result;
}

}  // namespace narrow::text
