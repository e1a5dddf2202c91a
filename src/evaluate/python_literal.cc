#include "evaluate/python_literal.h"

#include <charconv>

#include "base/error.h"
#include "text/utf8.h"

namespace narrow::evaluate {
namespace {

constexpr int kDeepest = 32;

class Parser {
 public:
  Parser(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  Json run() {
    Json value = parse(0);
    skip_blanks();
    if (at_ != text_.size()) refuse("more after the value");
    return value;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error::refused("not a Python literal at byte " + std::to_string(at_) + ": " + what,
                         where_);
  }

  void skip_blanks() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string::npos)
      ++at_;
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool take(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  Json parse(int depth) {
    if (depth > kDeepest) refuse("nested too deep");
    skip_blanks();
    const char c = peek();
    if (c == '\'' || c == '"') return text(c);
    if (c == '[') return list(']', depth);
    if (c == '(') return list(')', depth);
    if (take("None")) return nullptr;
    if (take("True")) return true;
    if (take("False")) return false;
    return number();
  }

  Json list(char close, int depth) {
    Json items = Json::array();
    bool commas = false;
    ++at_;
    for (skip_blanks(); peek() != close; skip_blanks()) {
      items.push_back(parse(depth + 1));
      skip_blanks();
      if (peek() == close) break;
      if (!take(",")) refuse("expected a comma");
      commas = true;
    }
    ++at_;
    if (close == ')' && items.size() == 1 && !commas) return items[0];  // brackets only
    return items;
  }

  Json number() {
    const size_t begin = at_;
    while (at_ < text_.size() &&
           std::string_view("+-.eE0123456789").find(text_[at_]) != std::string::npos)
      ++at_;
    const char* first = text_.data() + begin;
    const char* last = text_.data() + at_;
    int64_t whole = 0;
    if (const auto end = std::from_chars(first, last, whole);
        end.ec == std::errc() && end.ptr == last && first != last)
      return whole;
    double real = 0;
    if (const auto end = std::from_chars(first, last, real);
        end.ec == std::errc() && end.ptr == last && first != last)
      return real;
    at_ = begin;
    refuse("expected a text, a number or a list");
  }

  Json text(char quote) {
    std::string result;
    for (++at_; peek() != quote || at_ >= text_.size(); ++at_) {
      if (at_ >= text_.size() || text_[at_] == '\n') refuse("a text without end");
      if (text_[at_] != '\\') {
        result += text_[at_];
        continue;
      }
      if (++at_ >= text_.size()) refuse("a text without end");
      switch (const char c = text_[at_]) {
        case 'n':
          result += '\n';
          break;
        case 't':
          result += '\t';
          break;
        case 'r':
          result += '\r';
          break;
        case '\\':
        case '\'':
        case '"':
          result += c;
          break;
        case 'x':
          result += text::encode_utf8(code(2));
          break;
        case 'u':
          result += text::encode_utf8(code(4));
          break;
        case 'U':
          result += text::encode_utf8(code(8));
          break;
        default:
          result += '\\', result += c;
      }
    }
    ++at_;
    return text::repair(result);
  }

  // `digits` hexadecimal ones follow; leaves at_ on the last.
  uint32_t code(size_t digits) {
    uint32_t value = 0;
    const std::string_view hex = text_.substr(at_ + 1, digits);
    if (hex.size() != digits ||
        std::from_chars(hex.data(), hex.data() + digits, value, 16).ptr != hex.data() + digits ||
        value > 0x10ffff)
      refuse("a broken escape");
    at_ += digits;
    return value;
  }

  const std::string_view text_;
  const std::string& where_;
  size_t at_ = 0;
};

}  // namespace

Json parse_python_literal(std::string_view text, const std::string& where) {
  return Parser(text, where).run();
}

}  // namespace narrow::evaluate
