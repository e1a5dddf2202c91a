#include "report/escape.h"

#include <fmt/format.h>

namespace narrow::report {
namespace {

constexpr char32_t kInvalid = 0xFFFD;

// Decodes one code point and moves `at` past it; anything malformed is one byte of U+FFFD.
char32_t next_code_point(std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  const int length = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
  if (length == 1) {
    ++at;
    return lead;
  }
  if (length == 0 || lead > 0xF4 || at + static_cast<size_t>(length) > text.size()) {
    ++at;
    return kInvalid;
  }
  char32_t code = lead & (0x7F >> length);
  for (int i = 1; i < length; ++i) {
    const unsigned char follow = byte(at + static_cast<size_t>(i));
    if ((follow & 0xC0) != 0x80) {
      ++at;
      return kInvalid;
    }
    code = code << 6 | (follow & 0x3F);
  }
  static constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kLeast[length] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
    ++at;
    return kInvalid;
  }
  at += static_cast<size_t>(length);
  return code;
}

// Characters that change how others are shown, or show nothing.
bool deceptive(char32_t code) {
  return (code < 0x20 && code != '\n' && code != '\t') || (code >= 0x7F && code < 0xA0) ||
         code == 0xAD || code == 0x61C || code == 0x180E || (code >= 0x200B && code <= 0x200F) ||
         (code >= 0x2028 && code <= 0x202E) || (code >= 0x2060 && code <= 0x206F) ||
         code == 0xFEFF || (code >= 0xFFF9 && code <= 0xFFFB) ||
         (code >= 0xE0000 && code <= 0xE0FFF);
}

}  // namespace

std::string visible(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t start = at;
    const char32_t code = next_code_point(text, at);
    if (code == kInvalid)
      result += "\xEF\xBF\xBD";
    else if (deceptive(code))
      result += fmt::format("<U+{:04X}>", static_cast<uint32_t>(code));
    else
      result += text.substr(start, at - start);
  }
  return result;
}

std::string escape(std::string_view text) {
  std::string result;
  for (const char c : visible(text)) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string escape_cut(std::string_view text, int64_t limit) {
  if (static_cast<int64_t>(text.size()) <= limit) return escape(text);
  size_t cut = static_cast<size_t>(limit);
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;
  return escape(text.substr(0, cut)) + fmt::format(" … ({} more bytes)", text.size() - cut);
}

std::string escape_markdown(std::string_view text) {
  std::string result;
  for (const char c : visible(text)) {
    if (c == '\n' || c == '\t') {
      result += ' ';
      continue;
    }
    if (c == '<') {
      result += "&lt;";
      continue;
    }
    if (std::string_view("\\`*_[]|#").find(c) != std::string_view::npos) result += '\\';
    result += c;
  }
  return result;
}

std::string escape_csv(std::string_view text) {
  std::string shown = visible(text);
  if (!shown.empty() && std::string_view("=+-@\t").find(shown[0]) != std::string_view::npos)
    shown.insert(0, "'");
  if (shown.find_first_of(",\"\n") == std::string::npos) return shown;
  std::string result = "\"";
  for (const char c : shown) {
    if (c == '"') result += '"';
    result += c;
  }
  return result + '"';
}

std::string script_json(const Json& document) {
  std::string result;
  for (const char c :
       document.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace)) {
    if (c == '<' || c == '>' || c == '&')
      result += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    else
      result += c;
  }
  return result;
}

}  // namespace narrow::report
