#include "text/template_parser.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <set>

#include "base/error.h"

namespace narrow::text::jinja {
namespace {

struct Token {
  enum class Kind {
    text,
    name,
    integer,
    real,
    string,
    symbol,
    block_begin,
    block_end,
    output_begin,
    output_end,
    end
  };
  Kind kind;
  std::string text;
  int line;
};

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

  Token string(char quote) {
    std::string value;
    const int line = line_;
    for (++at_; at_ < source_.size() && source_[at_] != quote; ++at_) {
      char c = source_[at_];
      line_ += c == '\n';
      if (c == '\\' && at_ + 1 < source_.size()) {
        c = source_[++at_];
        if (c == 'n')
          c = '\n';
        else if (c == 't')
          c = '\t';
        else if (c == 'r')
          c = '\r';
        else if (c != '\\' && c != '\'' && c != '"')
          value += '\\';
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

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Body run() {
    Body body = block({});
    return body;
  }

 private:
  using Kind = Expression::Kind;

  const Token& peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  Token next() { return tokens_[std::min(at_++, tokens_.size() - 1)]; }
  bool is_symbol(const char* text) const {
    return peek().kind == Token::Kind::symbol && peek().text == text;
  }
  bool is_name(const char* text) const {
    return peek().kind == Token::Kind::name && peek().text == text;
  }
  bool take_symbol(const char* text) { return is_symbol(text) && (++at_, true); }
  bool take_name(const char* text) { return is_name(text) && (++at_, true); }
  void expect_symbol(const char* text) {
    if (!take_symbol(text)) refuse(std::string("expected '") + text + "'", peek().line);
  }
  std::string expect_name() {
    if (peek().kind != Token::Kind::name) refuse("expected a name", peek().line);
    return next().text;
  }
  void expect_block_end() {
    if (peek().kind != Token::Kind::block_end) refuse("expected '%}'", peek().line);
    ++at_;
  }

  struct Depth {
    explicit Depth(Parser& parser) : parser(parser) {
      if (++parser.depth_ > 4 * kMaxDepth) refuse("nested too deeply", parser.peek().line);
    }
    ~Depth() { --parser.depth_; }
    Parser& parser;
  };

  // Statements until one of the names in `ends`, whose block has been entered.
  Body block(const std::set<std::string>& ends) {
    const Depth guard(*this);
    Body body;
    while (true) {
      const Token token = next();
      if (token.kind == Token::Kind::end) {
        if (!ends.empty()) refuse("expected " + *ends.begin(), token.line);
        return body;
      }
      if (token.kind == Token::Kind::text) {
        body.push_back(node(Node::Kind::text, token.line));
        body.back()->text = token.text;
      } else if (token.kind == Token::Kind::output_begin) {
        body.push_back(node(Node::Kind::output, token.line));
        body.back()->expression = expression();
        if (peek().kind != Token::Kind::output_end) refuse("expected '}}'", peek().line);
        ++at_;
      } else {
        if (peek().kind == Token::Kind::name && ends.count(peek().text)) return body;
        statement(body);
      }
    }
  }

  static std::unique_ptr<Node> node(Node::Kind kind, int line) {
    auto made = std::make_unique<Node>();
    made->kind = kind;
    made->line = line;
    return made;
  }

  void statement(Body& body) {
    const int line = peek().line;
    const std::string keyword = expect_name();
    if (keyword == "if") {
      body.push_back(branch(line));
    } else if (keyword == "for") {
      body.push_back(loop(line));
    } else if (keyword == "set") {
      body.push_back(assign(line));
    } else if (keyword == "macro") {
      body.push_back(macro(line));
    } else if (keyword == "generation") {
      expect_block_end();
      body.push_back(node(Node::Kind::group, line));
      body.back()->body = block({"endgeneration"});
      ++at_;
      expect_block_end();
    } else if (keyword == "break" || keyword == "continue") {
      body.push_back(node(Node::Kind::stop_loop, line));
      body.back()->text = keyword;
      expect_block_end();
    } else {
      refuse("unknown tag \"" + keyword + "\"", line);
    }
  }

  std::unique_ptr<Node> branch(int line) {
    auto made = node(Node::Kind::branch, line);
    made->expression = expression();
    expect_block_end();
    made->body = block({"elif", "else", "endif"});
    if (take_name("elif")) {
      const Depth guard(*this);
      made->otherwise.push_back(branch(peek().line));
      return made;
    }
    if (take_name("else")) {
      expect_block_end();
      made->otherwise = block({"endif"});
    }
    ++at_;
    expect_block_end();
    return made;
  }

  std::unique_ptr<Node> loop(int line) {
    auto made = node(Node::Kind::loop, line);
    do made->names.push_back(expect_name());
    while (take_symbol(","));
    if (!take_name("in")) refuse("expected 'in'", peek().line);
    made->expression = disjunction();
    if (take_name("if")) made->filter = expression();
    expect_block_end();
    made->body = block({"else", "endfor"});
    if (take_name("else")) {
      expect_block_end();
      made->otherwise = block({"endfor"});
    }
    ++at_;
    expect_block_end();
    return made;
  }

  std::unique_ptr<Node> assign(int line) {
    auto made = node(Node::Kind::assign, line);
    do made->names.push_back(expect_name());
    while (take_symbol(","));
    if (take_symbol(".")) made->attribute = expect_name();
    if (take_symbol("=")) {
      made->expression = expression();
      expect_block_end();
    } else {
      expect_block_end();
      made->body = block({"endset"});
      ++at_;
      expect_block_end();
    }
    return made;
  }

  std::unique_ptr<Node> macro(int line) {
    auto made = node(Node::Kind::macro, line);
    made->text = expect_name();
    expect_symbol("(");
    while (!take_symbol(")")) {
      made->names.push_back(expect_name());
      made->defaults.push_back(take_symbol("=") ? expression() : nullptr);
      if (!is_symbol(")")) expect_symbol(",");
    }
    expect_block_end();
    made->body = block({"endmacro"});
    ++at_;
    expect_block_end();
    return made;
  }

  static ExpressionPtr make(Kind kind, int line) {
    auto made = std::make_unique<Expression>();
    made->kind = kind;
    made->line = line;
    return made;
  }
  static ExpressionPtr binary(const std::string& op, ExpressionPtr left, ExpressionPtr right) {
    auto made = make(Kind::binary, left->line);
    made->text = op;
    made->items.push_back(std::move(left));
    made->items.push_back(std::move(right));
    return made;
  }

  ExpressionPtr expression() {
    const Depth guard(*this);
    ExpressionPtr value = disjunction();
    while (is_name("if")) {
      auto made = make(Kind::condition, next().line);
      made->items.push_back(std::move(value));
      made->items.push_back(disjunction());
      made->items.push_back(take_name("else") ? expression() : nullptr);
      value = std::move(made);
    }
    return value;
  }
  ExpressionPtr disjunction() {
    ExpressionPtr left = conjunction();
    while (take_name("or")) left = binary("or", std::move(left), conjunction());
    return left;
  }
  ExpressionPtr conjunction() {
    ExpressionPtr left = negation();
    while (take_name("and")) left = binary("and", std::move(left), negation());
    return left;
  }
  ExpressionPtr negation() {
    if (!is_name("not")) return comparison();
    const Depth guard(*this);
    auto made = make(Kind::unary, next().line);
    made->text = "not";
    made->items.push_back(negation());
    return made;
  }
  ExpressionPtr comparison() {
    ExpressionPtr left = sum();
    while (true) {
      std::string op;
      for (const char* symbol : {"==", "!=", "<=", ">=", "<", ">"})
        if (is_symbol(symbol)) op = symbol;
      if (!op.empty()) {
        ++at_;
      } else if (take_name("in")) {
        op = "in";
      } else if (is_name("not") && peek(1).text == "in") {
        at_ += 2;
        op = "not in";
      } else {
        return left;
      }
      left = binary(op, std::move(left), sum());
    }
  }
  ExpressionPtr sum() {
    ExpressionPtr left = concatenation();
    while (is_symbol("+") || is_symbol("-")) {
      const std::string op = next().text;
      left = binary(op, std::move(left), concatenation());
    }
    return left;
  }
  ExpressionPtr concatenation() {
    ExpressionPtr left = product();
    while (take_symbol("~")) left = binary("~", std::move(left), product());
    return left;
  }
  ExpressionPtr product() {
    ExpressionPtr left = sign();
    while (is_symbol("*") || is_symbol("/") || is_symbol("//") || is_symbol("%")) {
      const std::string op = next().text;
      left = binary(op, std::move(left), sign());
    }
    return left;
  }
  ExpressionPtr sign() {
    if (!is_symbol("-") && !is_symbol("+")) return filtered(power());
    const Depth guard(*this);
    auto made = make(Kind::unary, peek().line);
    made->text = next().text;
    made->items.push_back(sign());
    return made;
  }
  ExpressionPtr power() {
    ExpressionPtr left = postfix(primary());
    if (take_symbol("**")) {
      const Depth guard(*this);
      left = binary("**", std::move(left), sign());
    }
    return left;
  }

  ExpressionPtr postfix(ExpressionPtr value) {
    while (true) {
      if (take_symbol(".")) {
        auto made = make(Kind::attribute, peek().line);
        if (peek().kind == Token::Kind::integer) {
          made->kind = Kind::index;
          auto key = make(Kind::literal, peek().line);
          key->value = static_cast<int64_t>(std::atoll(next().text.c_str()));
          made->items.push_back(std::move(value));
          made->items.push_back(std::move(key));
        } else {
          made->text = expect_name();
          made->items.push_back(std::move(value));
        }
        value = std::move(made);
      } else if (is_symbol("[")) {
        value = subscript(std::move(value));
      } else if (is_symbol("(")) {
        auto made = make(Kind::call, peek().line);
        made->items.push_back(std::move(value));
        made->arguments = arguments();
        value = std::move(made);
      } else {
        return value;
      }
    }
  }

  ExpressionPtr subscript(ExpressionPtr value) {
    auto made = make(Kind::index, next().line);
    made->items.push_back(std::move(value));
    const auto part = [&]() -> ExpressionPtr {
      return is_symbol(":") || is_symbol("]") ? nullptr : expression();
    };
    made->items.push_back(part());
    if (is_symbol(":")) {
      made->kind = Kind::slice;
      while (take_symbol(":")) made->items.push_back(part());
      if (made->items.size() > 4) refuse("a slice has at most three parts", made->line);
      made->items.resize(4);
    } else if (!made->items.back()) {
      refuse("expected an index", made->line);
    }
    expect_symbol("]");
    return made;
  }

  // Filters and tests bind tighter than operators.
  ExpressionPtr filtered(ExpressionPtr value) {
    while (true) {
      if (is_symbol("|")) {
        auto made = make(Kind::filter, next().line);
        made->text = expect_name();
        made->items.push_back(std::move(value));
        if (is_symbol("(")) made->arguments = arguments();
        value = postfix(std::move(made));
      } else if (is_name("is")) {
        auto made = make(Kind::test, next().line);
        made->negated = take_name("not");
        made->text = expect_name();
        made->items.push_back(std::move(value));
        if (is_symbol("(")) {
          made->arguments = arguments();
        } else if (peek().kind == Token::Kind::string || peek().kind == Token::Kind::integer ||
                   (peek().kind == Token::Kind::name && !is_name("and") && !is_name("or") &&
                    !is_name("else") && !is_name("if") && !is_name("is") && !is_name("in") &&
                    !is_name("not"))) {
          made->arguments.push_back({"", postfix(primary())});
        }
        value = std::move(made);
      } else {
        return value;
      }
    }
  }

  std::vector<Argument> arguments() {
    std::vector<Argument> list;
    expect_symbol("(");
    while (!take_symbol(")")) {
      Argument argument;
      if (peek().kind == Token::Kind::name && peek(1).kind == Token::Kind::symbol &&
          peek(1).text == "=") {
        argument.name = next().text;
        ++at_;
      }
      argument.value = expression();
      list.push_back(std::move(argument));
      if (!is_symbol(")")) expect_symbol(",");
    }
    return list;
  }

  ExpressionPtr literal(Value value, int line) {
    auto made = make(Kind::literal, line);
    made->value = std::move(value);
    return made;
  }

  ExpressionPtr primary() {
    const Depth guard(*this);
    const Token token = next();
    switch (token.kind) {
      case Token::Kind::integer:
        return literal(static_cast<int64_t>(std::atoll(token.text.c_str())), token.line);
      case Token::Kind::real:
        return literal(std::atof(token.text.c_str()), token.line);
      case Token::Kind::string: {
        std::string text = token.text;
        while (peek().kind == Token::Kind::string) text += next().text;
        return literal(Text::markup(std::move(text)), token.line);
      }
      case Token::Kind::name: {
        if (token.text == "true" || token.text == "True") return literal(true, token.line);
        if (token.text == "false" || token.text == "False") return literal(false, token.line);
        if (token.text == "none" || token.text == "None") return literal({}, token.line);
        auto made = make(Kind::name, token.line);
        made->text = token.text;
        return made;
      }
      default:
        break;
    }
    if (token.text == "(") return parenthesis(token.line);
    if (token.text == "[") {
      auto made = make(Kind::list, token.line);
      while (!take_symbol("]")) {
        made->items.push_back(expression());
        if (!is_symbol("]")) expect_symbol(",");
      }
      return made;
    }
    if (token.text == "{") {
      auto made = make(Kind::dict, token.line);
      while (!take_symbol("}")) {
        made->items.push_back(expression());
        expect_symbol(":");
        made->items.push_back(expression());
        if (!is_symbol("}")) expect_symbol(",");
      }
      return made;
    }
    refuse("unexpected \"" + token.text + "\"", token.line);
  }

  // A parenthesised expression or a tuple, which becomes a list.
  ExpressionPtr parenthesis(int line) {
    if (take_symbol(")")) return make(Kind::list, line);
    ExpressionPtr first = expression();
    if (take_symbol(")")) return first;
    auto made = make(Kind::list, line);
    made->items.push_back(std::move(first));
    while (!take_symbol(")")) {
      expect_symbol(",");
      if (!is_symbol(")")) made->items.push_back(expression());
    }
    return made;
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

Body parse(std::string_view source, const Syntax& syntax) {
  return Parser(Lexer(source, syntax).run()).run();
}

}  // namespace narrow::text::jinja
