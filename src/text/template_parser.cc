#include "text/template_parser.h"

#include <algorithm>
#include <cstdlib>
#include <set>

#include "base/error.h"
#include "text/template_lexer.h"

namespace narrow::text::jinja {
namespace {

[[noreturn]] void refuse(const std::string& what, int line) {
  throw Error::refused(what, "template, line " + std::to_string(line));
}

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
      expressions_ = 0;
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
      if (is_symbol(",")) {
        auto tuple = make(Kind::tuple, line);
        tuple->items.push_back(std::move(made->expression));
        while (take_symbol(",")) tuple->items.push_back(expression());
        made->expression = std::move(tuple);
      }
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

  ExpressionPtr make(Kind kind, int line) {
    if (++expressions_ > kMostExpressions) refuse("too long an expression", line);
    auto made = std::make_unique<Expression>();
    made->kind = kind;
    made->line = line;
    return made;
  }
  ExpressionPtr binary(const std::string& op, ExpressionPtr left, ExpressionPtr right) {
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
    ExpressionPtr left = power();
    while (is_symbol("*") || is_symbol("/") || is_symbol("//") || is_symbol("%")) {
      const std::string op = next().text;
      left = binary(op, std::move(left), power());
    }
    return left;
  }
  // As jinja2 has it, and Python has not: left to right, and weaker than a sign.
  ExpressionPtr power() {
    ExpressionPtr left = sign(/*with_filters=*/true);
    while (take_symbol("**")) left = binary("**", std::move(left), sign(/*with_filters=*/true));
    return left;
  }
  ExpressionPtr sign(bool with_filters) {
    ExpressionPtr value;
    if (is_symbol("-") || is_symbol("+")) {
      const Depth guard(*this);
      value = make(Kind::unary, peek().line);
      value->text = next().text;
      value->items.push_back(sign(/*with_filters=*/false));
    } else {
      value = postfix(primary());
    }
    return with_filters ? filtered(std::move(value)) : std::move(value);
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

  // A parenthesised expression or a tuple.
  ExpressionPtr parenthesis(int line) {
    if (take_symbol(")")) return make(Kind::tuple, line);
    ExpressionPtr first = expression();
    if (take_symbol(")")) return first;
    auto made = make(Kind::tuple, line);
    made->items.push_back(std::move(first));
    while (!take_symbol(")")) {
      expect_symbol(",");
      if (!is_symbol(")")) made->items.push_back(expression());
    }
    return made;
  }

  // A tag's expressions may all stand in each other ("1+1+1+…"): what walks them recurses.
  static constexpr int kMostExpressions = 4000;

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  int expressions_ = 0;  // in this tag
};

}  // namespace

Body parse(std::string_view source, const Syntax& syntax) {
  return Parser(tokenize(source, syntax)).run();
}

}  // namespace narrow::text::jinja
