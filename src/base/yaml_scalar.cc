#include "base/yaml_scalar.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

namespace narrow {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t'; }
bool is_break(char c) { return c == '\n' || c == '\r'; }

void append_utf8(uint32_t code, std::string& to) {
  if (code < 0x80) {
    to += static_cast<char>(code);
    return;
  }
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  constexpr unsigned kLead[] = {0, 0xC0, 0xE0, 0xF0};
  to += static_cast<char>(kLead[more] | (code >> (6 * more)));
  for (int i = more - 1; i >= 0; --i) to += static_cast<char>(0x80 | ((code >> (6 * i)) & 0x3F));
}

class Reader {
 public:
  Reader(std::string_view text, size_t at) : text_(text), at_(at) {}

  std::optional<std::string> run() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') return std::nullopt;
    ++at_;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (is_blank(c) || is_break(c)) {
        fold();
      } else if (c == quote && quote == '\'' && peek(1) == quote) {
        result_ += quote;
        at_ += 2;
      } else if (c == quote) {
        return std::move(result_);
      } else if (c == '\\' && quote == '"') {
        ++at_;
        if (!escape()) return std::nullopt;
      } else {
        result_ += c;
        ++at_;
      }
    }
    return std::nullopt;
  }

 private:
  char peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  void skip_break() { at_ += peek() == '\r' && peek(1) == '\n' ? 2 : 1; }

  // Blank lines from here on, each a line break of the value; blanks before the next text.
  int64_t skip_lines() {
    int64_t breaks = 0;
    while (true) {
      while (is_blank(peek())) ++at_;
      if (!is_break(peek())) return breaks;
      skip_break();
      ++breaks;
    }
  }

  // Blanks, or the end of a line with those around it.
  void fold() {
    const size_t begin = at_;
    while (is_blank(peek())) ++at_;
    if (!is_break(peek())) {
      result_.append(text_, begin, at_ - begin);
      return;
    }
    skip_break();
    const int64_t breaks = skip_lines();
    result_.append(breaks == 0 ? " " : std::string(static_cast<size_t>(breaks), '\n'));
  }

  // What stands behind a backslash.
  bool escape() {
    if (is_break(peek())) {
      skip_break();
      result_.append(static_cast<size_t>(skip_lines()), '\n');
      return true;
    }
    const char c = peek();
    ++at_;
    constexpr std::string_view kNames = "0abtnvfre \"\\/\t",
                               kValues("\0\a\b\t\n\v\f\r\x1b \"\\/\t", 14);
    if (const size_t found = kNames.find(c); found != std::string_view::npos) {
      result_ += kValues[found];
      return true;
    }
    switch (c) {
      case 'N':
        append_utf8(0x85, result_);
        return true;
      case '_':
        append_utf8(0xA0, result_);
        return true;
      case 'L':
        append_utf8(0x2028, result_);
        return true;
      case 'P':
        append_utf8(0x2029, result_);
        return true;
      case 'x':
        return code_point(2);
      case 'u':
        return code_point(4);
      case 'U':
        return code_point(8);
      default:
        return false;
    }
  }

  bool code_point(size_t digits) {
    const std::string_view hex = text_.substr(std::min(at_, text_.size()), digits);
    uint32_t code = 0;
    const auto [end, error] = std::from_chars(hex.data(), hex.data() + hex.size(), code, 16);
    if (error != std::errc() || hex.size() != digits || end != hex.data() + digits ||
        code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
      return false;
    append_utf8(code, result_);
    at_ += digits;
    return true;
  }

  const std::string_view text_;
  size_t at_;
  std::string result_;
};

}  // namespace

std::optional<std::string> quoted_scalar(std::string_view text, size_t at) {
  return Reader(text, at).run();
}

}  // namespace narrow
