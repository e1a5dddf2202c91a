#include "evaluate/python_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "text/utf8.h"

namespace narrow::evaluate::python {
namespace {

struct Range {
  uint32_t first, last;
};

// Unicode's Other_Uppercase and Other_Lowercase: cased characters outside Lu and Ll.
constexpr std::array kOtherUpper{Range{0x2160, 0x216F}, Range{0x24B6, 0x24CF},
                                 Range{0x1F130, 0x1F149}, Range{0x1F150, 0x1F169},
                                 Range{0x1F170, 0x1F189}};
constexpr std::array kOtherLower{
    Range{0xAA, 0xAA},     Range{0xBA, 0xBA},     Range{0x2B0, 0x2B8},   Range{0x2C0, 0x2C1},
    Range{0x2E0, 0x2E4},   Range{0x345, 0x345},   Range{0x37A, 0x37A},   Range{0x1D2C, 0x1D6A},
    Range{0x1D78, 0x1D78}, Range{0x1D9B, 0x1DBF}, Range{0x2071, 0x2071}, Range{0x207F, 0x207F},
    Range{0x2090, 0x209C}, Range{0x2170, 0x217F}, Range{0x24D0, 0x24E9}, Range{0x2C7C, 0x2C7D},
    Range{0xA69C, 0xA69D}, Range{0xA770, 0xA770}, Range{0xA7F8, 0xA7F9}, Range{0xAB5C, 0xAB5F}};

template <size_t N>
bool within(const std::array<Range, N>& ranges, uint32_t code) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const Range& r) { return r.first <= code && code <= r.last; });
}

utf8proc_category_t category(uint32_t code) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

// Calls visit(code, begin, end) for each character until it answers false.
template <class Visit>
void for_each(std::string_view text, Visit visit) {
  for (size_t at = 0; at < text.size();) {
    utf8proc_int32_t code = -1;
    const auto length =
        utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at),
                         static_cast<utf8proc_ssize_t>(text.size() - at), &code);
    const size_t step = length > 0 ? static_cast<size_t>(length) : 1;
    if (!visit(static_cast<uint32_t>(length > 0 ? code : 0xFFFD), at, at + step)) return;
    at += step;
  }
}

template <class Wanted, class Spoils>
bool all_cased(std::string_view text, Wanted wanted, Spoils spoils) {
  bool any = false, good = true;
  for_each(text, [&](uint32_t code, size_t, size_t) {
    any = any || wanted(code);
    good = !spoils(code) && category(code) != UTF8PROC_CATEGORY_LT;
    return good;
  });
  return any && good;
}

}  // namespace

std::vector<uint32_t> code_points(std::string_view text) {
  std::vector<uint32_t> codes;
  for_each(text, [&](uint32_t code, size_t, size_t) {
    codes.push_back(code);
    return true;
  });
  return codes;
}

bool is_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_upper(uint32_t code) {
  return category(code) == UTF8PROC_CATEGORY_LU || within(kOtherUpper, code);
}

bool is_lower(uint32_t code) {
  return category(code) == UTF8PROC_CATEGORY_LL || within(kOtherLower, code);
}

bool is_upper(std::string_view text) {
  return all_cased(
      text, [](uint32_t c) { return is_upper(c); }, [](uint32_t c) { return is_lower(c); });
}

bool is_lower(std::string_view text) {
  return all_cased(
      text, [](uint32_t c) { return is_lower(c); }, [](uint32_t c) { return is_upper(c); });
}

std::string_view strip_right(std::string_view text) {
  size_t end = 0;
  for_each(text, [&](uint32_t code, size_t, size_t after) {
    if (!is_space(code)) end = after;
    return true;
  });
  return text.substr(0, end);
}

std::string_view strip(std::string_view text) {
  size_t begin = text.size();
  for_each(text, [&](uint32_t code, size_t at, size_t) {
    if (is_space(code)) return true;
    begin = at;
    return false;
  });
  return strip_right(text.substr(begin));
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> words;
  bool inside = false;
  for_each(text, [&](uint32_t code, size_t at, size_t after) {
    if (is_space(code)) {
      inside = false;
    } else {
      if (!inside) words.emplace_back();
      words.back() += text.substr(at, after - at);
      inside = true;
    }
    return true;
  });
  return words;
}

std::vector<std::string> split(std::string_view text, std::string_view separator) {
  std::vector<std::string> parts;
  while (true) {
    const size_t at = text.find(separator);
    parts.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + separator.size());
  }
}

std::string replace(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  while (true) {
    const size_t at = text.find(from);
    result += text.substr(0, at);
    if (at == std::string_view::npos) return result;
    result += to;
    text.remove_prefix(at + from.size());
  }
}

std::string lower(std::string_view text) {
  std::string result;
  for_each(text, [&](uint32_t code, size_t, size_t) {
    result += text::encode_utf8(
        static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
    if (code == 0x130) result += "\u0307";  // the one letter whose lower case is two characters
    return true;
  });
  return result;
}

std::string without_punctuation(std::string_view text) {
  std::string result;
  for_each(text, [&](uint32_t code, size_t at, size_t after) {
    const auto kind = category(code);
    if (kind < UTF8PROC_CATEGORY_PC || kind > UTF8PROC_CATEGORY_PO)
      result += text.substr(at, after - at);
    return true;
  });
  return result;
}

}  // namespace narrow::evaluate::python
