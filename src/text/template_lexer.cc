#include "text/template_lexer.h"

#include <algorithm>
#include <cctype>
#include <cstdint>

#include "base/error.h"
#include "text/utf8.h"

namespace narrow::text::jinja {
namespace {

[[noreturn]] void refuse(const std::string& what, int line) {
  throw Error::refused(what, "template, line " + std::to_string(line));
}

bool name_start(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool name_part(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

class Lexer {
 public:
  Lexer(std::string_view source, const Syntax& syntax) : source_(source), syntax_(syntax) {
    if (!syntax.keep_trailing_newline && source_.ends_with('\n')) source_.remove_suffix(1);
  }

  std::vector<Token> run() {
    while (at_ < source_.size()) text();
    tokens_.push_back({Token::Kind::end, "", line_});
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return source_.substr(at_); }

  void text() {
    size_t open = at_;
    while (true) {
      open = source_.find('{', open);
      if (open == std::string_view::npos || open + 1 >= source_.size()) {
        emit_text(std::string(rest()));
        at_ = source_.size();
        return;
      }
      const char next = source_[open + 1];
      if (next == '{' || next == '%' || next == '#') break;
      ++open;
    }
    std::string before(source_.substr(at_, open - at_));
    const char kind = source_[open + 1];
    const char control = open + 2 < source_.size() ? source_[open + 2] : '\0';
    if (control == '-') {
      before.erase(before.find_last_not_of(" \t\r\n") + 1);
    } else if (control != '+' && syntax_.lstrip_blocks && kind != '{') {
      const size_t line_start = before.rfind('\n') + 1;
      if (before.find_first_not_of(" \t", line_start) == std::string::npos &&
          (line_start > 0 || at_line_start()))
        before.erase(line_start);
    }
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<long>(at_),
                                         source_.begin() + static_cast<long>(open), '\n'));
    if (!before.empty()) tokens_.push_back({Token::Kind::text, std::move(before), line_});
    at_ = open + 2;
    if (control == '-' || control == '+') ++at_;
    if (kind == '#') {
      comment();
    } else {
      inside(kind == '%');
    }
  }

  bool at_line_start() const { return at_ == 0 || source_[at_ - 1] == '\n'; }

  void emit_text(std::string piece) {
    line_ += static_cast<int>(std::count(piece.begin(), piece.end(), '\n'));
    if (!piece.empty()) tokens_.push_back({Token::Kind::text, std::move(piece), line_});
  }

  void comment() {
    const size_t close = source_.find("#}", at_);
    if (close == std::string_view::npos) refuse("a comment does not end", line_);
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<long>(at_),
                                         source_.begin() + static_cast<long>(close), '\n'));
    const bool strip = close > at_ && source_[close - 1] == '-';
    at_ = close + 2;
    after_tag(strip, /*block=*/true);
  }

  void after_tag(bool strip, bool block) {
    if (strip) {
      while (at_ < source_.size() && std::isspace(static_cast<unsigned char>(source_[at_])))
        line_ += source_[at_++] == '\n';
    } else if (block && syntax_.trim_blocks && at_ < source_.size() && source_[at_] == '\n') {
      ++at_;
      ++line_;
    }
  }

  void inside(bool block) {
    tokens_.push_back({block ? Token::Kind::block_begin : Token::Kind::output_begin, "", line_});
    const std::string_view close = block ? "%}" : "}}";
    int nesting = 0;
    while (true) {
      while (at_ < source_.size() && std::isspace(static_cast<unsigned char>(source_[at_])))
        line_ += source_[at_++] == '\n';
      if (at_ >= source_.size()) refuse("a tag does not end", line_);
      const bool strip = rest().starts_with('-') && rest().substr(1).starts_with(close);
      if (nesting == 0 && (strip || rest().starts_with(close))) {
        at_ += close.size() + (strip ? 1 : 0);
        tokens_.push_back({block ? Token::Kind::block_end : Token::Kind::output_end, "", line_});
        after_tag(strip, block);
        return;
      }
      const Token token = one();
      if (token.text == "(" || token.text == "[" || token.text == "{") ++nesting;
      if (token.kind == Token::Kind::symbol &&
          (token.text == ")" || token.text == "]" || token.text == "}"))
        --nesting;
      tokens_.push_back(token);
    }
  }

  Token one() {
    const char c = source_[at_];
    const size_t begin = at_;
    if (name_start(c)) {
      while (at_ < source_.size() && name_part(source_[at_])) ++at_;
      return {Token::Kind::name, std::string(source_.substr(begin, at_ - begin)), line_};
    }
    if (std::isdigit(static_cast<unsigned char>(c))) {
      bool real = false;
      while (at_ < source_.size() &&
             (std::isdigit(static_cast<unsigned char>(source_[at_])) ||
              (source_[at_] == '.' && !real && at_ + 1 < source_.size() &&
               std::isdigit(static_cast<unsigned char>(source_[at_ + 1]))))) {
        real = real || source_[at_] == '.';
        ++at_;
      }
      real = exponent() || real;
      return {real ? Token::Kind::real : Token::Kind::integer,
              std::string(source_.substr(begin, at_ - begin)), line_};
    }
    if (c == '\'' || c == '"') return string(c);
    for (const char* symbol : {"==", "!=", "<=", ">=", "//", "**"}) {
      if (rest().starts_with(symbol)) {
        at_ += 2;
        return {Token::Kind::symbol, symbol, line_};
      }
    }
    if (std::string_view("+-*/%~<>=()[]{}.,:|").find(c) == std::string_view::npos)
      refuse(std::string("unexpected character '") + c + "'", line_);
    ++at_;
    return {Token::Kind::symbol, std::string(1, c), line_};
  }

  // Steps over "e5", "E-3".
  bool exponent() {
    size_t end = at_;
    if (end >= source_.size() || (source_[end] != 'e' && source_[end] != 'E')) return false;
    ++end;
    if (end < source_.size() && (source_[end] == '+' || source_[end] == '-')) ++end;
    const size_t digits = end;
    while (end < source_.size() && std::isdigit(static_cast<unsigned char>(source_[end]))) ++end;
    if (end == digits) return false;
    at_ = end;
    return true;
  }

  // The character of "\\xhh" or "\\uhhhh", whose first letter has been read.
  std::string character(int digits, int line) {
    const std::string hex(source_.substr(at_ + 1, static_cast<size_t>(digits)));
    if (hex.size() != static_cast<size_t>(digits) ||
        hex.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos)
      refuse("a malformed escape", line);
    at_ += static_cast<size_t>(digits);
    return encode_utf8(static_cast<uint32_t>(std::stoul(hex, nullptr, 16)));
  }

  Token string(char quote) {
    std::string value;
    const int line = line_;
    for (++at_; at_ < source_.size() && source_[at_] != quote; ++at_) {
      char c = source_[at_];
      line_ += c == '\n';
      if (c == '\\' && at_ + 1 < source_.size()) {
        c = source_[++at_];
        if (c == 'n') {
          c = '\n';
        } else if (c == 't') {
          c = '\t';
        } else if (c == 'r') {
          c = '\r';
        } else if (c == 'x' || c == 'u') {
          value += character(c == 'x' ? 2 : 4, line);
          continue;
        } else if (c != '\\' && c != '\'' && c != '"') {
          value += '\\';
        }
      }
      value += c;
    }
    if (at_ >= source_.size()) refuse("a string does not end", line);
    ++at_;
    return {Token::Kind::string, std::move(value), line};
  }

  std::string_view source_;
  const Syntax& syntax_;
  size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, const Syntax& syntax) {
  std::string lines;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      lines += source[i];
    } else if (i + 1 == source.size() || source[i + 1] != '\n') {
      lines += '\n';
    }
  }
  return Lexer(lines, syntax).run();
}

}  // namespace narrow::text::jinja
