#include "evaluate/math_parser.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <utility>

#include "evaluate/filter.h"
#include "evaluate/math_lexer.h"
#include "evaluate/python_text.h"

namespace narrow::evaluate::math {
namespace {

constexpr int kDepthLimit = 100;
constexpr int64_t kStepLimit = 200'000;

using Elements = std::vector<std::vector<Expression>>;  // parts between ';' of parts between ','

// -oo and oo count; nothing for what holds a symbol.
std::optional<long double> real_bound(const Expression& expression) {
  if (expression->kind == Kind::constant && expression->name == "oo")
    return std::numeric_limits<long double>::infinity();
  if (expression->kind == Kind::mul && expression->args.size() == 2 &&
      is_number(expression->args[0]) && expression->args[1]->kind == Kind::constant &&
      expression->args[1]->name == "oo")
    return std::copysign(std::numeric_limits<long double>::infinity(),
                         expression->args[0]->number.value);
  std::vector<std::string> symbols;
  collect_symbols(expression, symbols);
  const auto value = symbols.empty() ? numeric_value(expression, 0) : std::nullopt;
  if (!value || value->imag() != 0) return std::nullopt;
  return value->real();
}

bool holds_complex_symbol(const Expression& expression) {
  return (expression->kind == Kind::symbol && !expression->real) ||
         std::any_of(expression->args.begin(), expression->args.end(), holds_complex_symbol);
}

Expression make_interval(Expression left, Expression right, bool left_open, bool right_open) {
  if (holds_complex_symbol(left) || holds_complex_symbol(right))
    throw Unparsable("an interval of complex numbers");
  const auto from = real_bound(left), to = real_bound(right);
  if (from && to) {
    if ((left_open && right_open && *to <= *from) || (!left_open && !right_open && *to < *from))
      return make(Kind::tuple, {std::move(left), std::move(right)});
    if (*to < *from || (*to == *from && (left_open || right_open)))
      return make(Kind::named_set, {}, "empty");
    if (*to == *from) return make_set({std::move(left)});
  }
  Node node{Kind::interval, {}, {std::move(left), std::move(right)}, {}, true, left_open,
            right_open,     0};
  if (from && std::isinf(*from)) node.left_open = true;
  if (to && std::isinf(*to)) node.right_open = true;
  return std::make_shared<const Node>(std::move(node));
}

Expression set_or_single(Elements elements) {
  if (elements.size() == 1) {
    if (elements[0].size() == 1) return elements[0][0];
    return make_set(std::move(elements[0]));
  }
  const bool singles = std::all_of(elements.begin(), elements.end(),
                                   [](const auto& part) { return part.size() == 1; });
  std::vector<Expression> parts;
  for (auto& part : elements)
    parts.push_back(singles ? part[0] : make(Kind::tuple, std::move(part)));
  return make_set(std::move(parts));
}

std::vector<Expression> flattened(Elements elements) {
  std::vector<Expression> all;
  for (auto& part : elements) all.insert(all.end(), part.begin(), part.end());
  return all;
}

class Parser {
 public:
  Parser(std::string_view formula, bool real)
      : formula_(formula), tokens_(tokenize(formula)), real_(real) {}

  Expression run() {
    Expression result;
    if (attempt([&] { return assigned_elements(); }, result)) return result;
    if (attempt([&] { return set_or_single(elements(/*relations=*/true)); }, result)) {
      static const Pattern grouped(R"(^\s*(-?)\d{1,3}(,\d{3})+(\.\d+)?\s*$)");
      return grouped.find_all(std::string(formula_)).empty() ? result : grouped_number();
    }
    if (attempt([&] { return set_relation(); }, result)) return result;
    throw Unparsable("not a formula");
  }

 private:
  struct Deeper {
    explicit Deeper(int& depth) : depth(depth) {
      if (++depth > kDepthLimit) {
        --depth;
        throw Unparsable("nested too deeply");
      }
    }
    ~Deeper() { --depth; }
    int& depth;
  };

  // One of the three readings of a whole formula.
  bool attempt(const std::function<Expression()>& read, Expression& result) {
    at_ = 0;
    try {
      result = read();
      return at_ == tokens_.size();
    } catch (const Unparsable&) {
      return false;
    }
  }

  const Token* peek(size_t ahead = 0) {
    if (++steps_ > kStepLimit) throw Unparsable("too many steps");
    return at_ + ahead < tokens_.size() ? &tokens_[at_ + ahead] : nullptr;
  }
  bool is_operator(std::string_view text, size_t ahead = 0) {
    const Token* token = peek(ahead);
    return token && token->kind == TokenKind::operator_ && token->text == text;
  }
  bool is_command(std::string_view text) {
    const Token* token = peek();
    return token && token->kind == TokenKind::command && token->text == text;
  }
  bool take(std::string_view text) {
    if (!is_operator(text)) return false;
    ++at_;
    return true;
  }
  void expect(std::string_view text) {
    if (!take(text)) throw Unparsable("expected " + std::string(text));
  }
  // The source between two tokens, without blanks.
  std::string source(size_t first, size_t last) const {
    std::string text;
    const size_t end = last < tokens_.size() ? tokens_[last].begin : formula_.size();
    for (const char c : formula_.substr(tokens_[first].begin, end - tokens_[first].begin))
      if (c != ' ' && c != '\t' && c != '\n' && c != '\r') text += c;
    return text;
  }

  Expression grouped_number() const {
    std::string text;
    for (const char c : formula_)
      if ((c >= '0' && c <= '9') || c == '.') text += c;
    if (python::strip(formula_).starts_with('0'))  // "0,111" is a decimal fraction
      text = "0." + text.substr(1);
    Number number = *parse_number(text);
    return make_number(python::strip(formula_).starts_with('-') ? negated(number) : number);
  }

  // ---- sets, tuples, relations

  Expression assigned_elements() {
    Expression left = symbol_list();
    if (!take("in")) expect("=");
    return make(Kind::relation, {left, set_or_single(elements(/*relations=*/false))}, "=");
  }

  Expression symbol_list() {
    if (!take("(")) return symbol_with_power();
    std::vector<Expression> symbols{symbol_with_power()};
    while (take(",")) symbols.push_back(symbol_with_power());
    expect(")");
    return symbols.size() == 1 ? symbols[0] : make(Kind::tuple, std::move(symbols));
  }

  Elements elements(bool relations) {
    Elements result;
    do {
      std::vector<Expression> part;
      do {
        element(relations, part);
      } while (take(","));
      result.push_back(std::move(part));
    } while (take(";"));
    return result;
  }

  bool at_end_of_element() {
    return !peek() || is_operator(",") || is_operator(";") || is_operator(")") ||
           is_operator("]") || is_operator("}") || is_operator("\\}");
  }

  void element(bool relations, std::vector<Expression>& part) {
    const Deeper deeper(depth_);
    if (take("+-")) {
      Expression value = expression();
      part.push_back(negate(value));
      part.push_back(value);
      return;
    }
    const size_t start = at_;
    if (starts_set()) {
      try {
        Expression set = set_atom();
        if (at_end_of_element()) {
          part.push_back(std::move(set));
          return;
        }
      } catch (const Unparsable&) {
      }
      at_ = start;
    }
    Expression value = expression();
    if (take("+-")) {
      Expression change = expression();
      part.push_back(add(value, change));
      part.push_back(add(value, negate(change)));
      return;
    }
    part.push_back(relations ? relation(std::move(value)) : std::move(value));
  }

  static bool is_relation(std::string_view text) {
    return text == "=" || text == "<" || text == "<=" || text == ">" || text == ">=" ||
           text == "!=" || text == "~";
  }

  Expression relation(Expression left) {
    std::vector<Expression> relations;
    while (peek() && peek()->kind == TokenKind::operator_ && is_relation(peek()->text)) {
      const std::string name = tokens_[at_++].text;
      Expression right = expression();
      if (name == "~") {
        // An approximation: the exact side counts, or what a name stands for.
        if (relations.empty() && only_symbols(left)) left = std::move(right);
        continue;
      }
      relations.push_back(make(Kind::relation, {left, right}, name));
      left = std::move(right);
    }
    if (relations.empty()) return left;
    return relations.size() == 1 ? relations[0] : make(Kind::chain, std::move(relations));
  }

  bool starts_set() {
    const Token* token = peek();
    if (!token) return false;
    if (token->kind == TokenKind::command) return token->text == "boxed";
    if (token->kind != TokenKind::operator_) return false;
    for (const char* text : {"(", "[", "{", "\\{", "empty", "N", "Z", "Q", "R", "C"})
      if (token->text == text) return true;
    return false;
  }

  Expression set_relation() {
    const Deeper deeper(depth_);
    const size_t start = at_;
    try {
      Expression left = symbol_list();
      if (take("in") || take("=")) return make(Kind::relation, {left, set_relation()}, "=");
    } catch (const Unparsable&) {
    }
    at_ = start;
    return set_operations(0);
  }

  // Binds ever tighter: minus, union, intersection.
  Expression set_operations(size_t level) {
    static constexpr const char* kNames[] = {"minus", "union", "intersection"};
    if (level == 3) return set_group();
    Expression left = set_operations(level + 1);
    while (take(kNames[level])) {
      Expression right = set_operations(level + 1);
      left = make(Kind::set_operation, {as_set(left), as_set(right)}, kNames[level]);
    }
    return left;
  }

  static Expression as_set(const Expression& expression) {
    return expression->kind == Kind::tuple ? make_set(expression->args) : expression;
  }

  Expression set_group() {
    const Deeper deeper(depth_);
    const size_t start = at_;
    try {
      return set_atom();
    } catch (const Unparsable&) {
      at_ = start;
    }
    expect("(");
    Expression inner = set_operations(0);
    expect(")");
    return inner;
  }

  Expression set_atom() {
    const Deeper deeper(depth_);
    for (const char* name : {"empty", "N", "Z", "Q", "R", "C"})
      if (take(name)) return make(Kind::named_set, {}, name);
    if (is_command("boxed")) {
      ++at_;
      expect("{");
      Elements inner = elements(/*relations=*/true);
      expect("}");
      return set_or_single(std::move(inner));
    }
    if (is_operator("{") && is_operator("}", 1)) {
      at_ += 2;
      return make(Kind::named_set, {}, "empty");
    }
    if (is_operator("{") || is_operator("\\{")) {
      const bool visual = take("\\{");
      if (!visual) expect("{");
      Elements inner = elements(/*relations=*/true);
      expect(visual ? "\\}" : "}");
      return make_set(flattened(std::move(inner)));
    }
    return interval_or_tuple();
  }

  Expression interval_or_tuple() {
    const size_t start = at_;
    const bool left_open = take("(");
    if (!left_open) expect("[");
    try {
      Expression left = expression();
      expect(",");
      Expression right = expression();
      const bool right_open = take(")");
      if (!right_open) expect("]");
      return make_interval(std::move(left), std::move(right), left_open, right_open);
    } catch (const Unparsable&) {
      at_ = start + 1;
    }
    Elements inner = elements(/*relations=*/true);
    expect(left_open ? ")" : "]");
    if (inner.size() == 1 && inner[0].size() == 1) return inner[0][0];
    return make(Kind::tuple, flattened(std::move(inner)));
  }

  // ---- arithmetic

  Expression expression() {
    const Deeper deeper(depth_);
    Expression left = product(/*functions=*/true);
    while (true) {
      if (take("+")) {
        left = add(std::move(left), product(/*functions=*/true));
      } else if (take("-")) {
        left = add(std::move(left), negate(product(/*functions=*/true)));
      } else {
        return left;
      }
    }
  }

  Expression product(bool functions) {
    Expression left = signed_factors(functions);
    while (true) {
      if (take("*")) {
        left = multiply(std::move(left), signed_factors(functions));
      } else if (take("/") || take(":")) {
        left = divide(std::move(left), signed_factors(functions));
      } else if (take("mod")) {
        left = make(Kind::function, {left, signed_factors(functions)}, "mod");
      } else {
        return left;
      }
    }
  }

  Expression signed_factors(bool functions) {
    bool negative = false;
    while (true) {
      if (take("-")) {
        negative = !negative;
      } else if (!take("+")) {
        break;
      }
    }
    Expression value = factors(functions);
    return negative ? negate(std::move(value)) : value;
  }

  // Factors side by side. An integer before a positive fraction makes a mixed number.
  Expression factors(bool functions) {
    std::vector<Expression> list{postfix()};
    while (starts_factor(functions)) list.push_back(postfix());
    Expression result = list.back();
    for (size_t i = list.size() - 1; i-- > 0;) {
      const Expression& left = list[i];
      if (is_number(left) && left->number.is_integer() && is_number(result) &&
          result->number.is_rational() && result->number.value > 0) {
        const bool negative = left->number.value < 0;
        if (const auto sum =
                exact_sum(left->number, negative ? negated(result->number) : result->number)) {
          result = make_number(*sum);
        } else {
          result = add(left, negative ? negate(result) : result);
        }
      } else {
        result = multiply(left, std::move(result));
      }
    }
    return result;
  }

  bool starts_factor(bool functions) {
    const Token* token = peek();
    if (!token) return false;
    switch (token->kind) {
      case TokenKind::number:
      case TokenKind::percentage:
      case TokenKind::scientific:
      case TokenKind::letter:
      case TokenKind::capital_e:
      case TokenKind::differential:
      case TokenKind::greek:
      case TokenKind::accent:
      case TokenKind::matrix_begin:
        return true;
      case TokenKind::euler:
        return functions;
      case TokenKind::matrix_end:
      case TokenKind::word:
        return false;
      case TokenKind::operator_:
        return token->text == "(" || token->text == "{" || token->text == "[" ||
               token->text == "\\{" || token->text == "\\|" || (token->text == "|" && bars_ == 0);
      case TokenKind::command:
        for (const char* name : {"frac", "dfrac", "tfrac", "cfrac", "binom", "tbinom", "dbinom",
                                 "infty", "lfloor", "lceil", "boxed", "phantom"})
          if (token->text == name) return true;
        return functions && (token->text == "sqrt" || token->text == "operatorname" ||
                             function_names().contains(token->text) || is_many(token->text));
    }
    return false;
  }

  Expression postfix() {
    Expression value = powers();
    while (true) {
      if (take("!")) {
        value = make(Kind::function, {value}, "factorial");
      } else if (is_operator("transpose")) {
        ++at_;
        if (value->kind == Kind::matrix) value = transposed(*value);
      } else if (!take("degree")) {
        return value;
      }
    }
  }

  static Expression transposed(const Node& matrix) {
    Node result{Kind::matrix, {}, {}, {}, true, false, false, 0};
    const auto columns = static_cast<size_t>(matrix.columns), rows = matrix.args.size() / columns;
    for (size_t c = 0; c < columns; ++c)
      for (size_t r = 0; r < rows; ++r) result.args.push_back(matrix.args[r * columns + c]);
    result.columns = static_cast<int64_t>(rows);
    return std::make_shared<const Node>(std::move(result));
  }

  Expression powers() {
    Expression base = component();
    while (take("^")) {
      base = power(std::move(base), script());
      skip_subscript();
    }
    return base;
  }

  // What may follow ^ or _: one atom or a group in braces.
  Expression script() {
    if (!take("{")) return atom();
    Expression inner = expression();
    expect("}");
    return inner;
  }

  void skip_subscript() {
    if (take("_")) subscript();
  }

  std::string subscript() {
    const Deeper deeper(depth_);
    const size_t first = at_;
    if (!is_operator("{")) {
      atom();
      return source(first, at_);
    }
    ++at_;
    do {
      expression();
    } while (take(","));
    const std::string text = source(first + 1, at_);
    expect("}");
    return text;
  }

  Expression enclosed(const char* close) {
    ++at_;
    Expression inner = expression();
    expect(close);
    return inner;
  }

  Expression component() {
    const Deeper deeper(depth_);
    const Token* token = peek();
    if (!token) throw Unparsable("the formula breaks off");
    if (token->kind == TokenKind::operator_) {
      for (const auto& [open, close] :
           {std::pair{"(", ")"}, {"{", "}"}, {"[", "]"}, {"\\{", "\\}"}}) {
        if (token->text != open) continue;
        if (const auto choice = choose()) return *choice;
        return enclosed(close);
      }
      if (token->text == "|" || token->text == "\\|") {
        const bool norm = token->text == "\\|";
        ++bars_;
        Expression inner;
        try {
          inner = enclosed(norm ? "\\|" : "|");
        } catch (const Unparsable&) {
          --bars_;
          throw;
        }
        --bars_;
        return make(Kind::function, {inner}, norm ? "norm" : "abs");
      }
      throw Unparsable("an operator without operand");
    }
    if (token->kind == TokenKind::command) return command(token->text);
    if (token->kind == TokenKind::matrix_begin) return matrix();
    if (token->kind == TokenKind::euler) {
      ++at_;
      if (!take("^")) return make_constant("e");
      return power(make_constant("e"), script());
    }
    if (const auto call = unknown_function()) return *call;
    return atom();
  }

  // {n \choose k}
  std::optional<Expression> choose() {
    if (!is_operator("{")) return std::nullopt;
    const size_t start = at_++;
    try {
      Expression upper = expression();
      if (is_command("choose")) {
        ++at_;
        Expression lower = expression();
        expect("}");
        return make(Kind::function, {upper, lower}, "binomial");
      }
    } catch (const Unparsable&) {
    }
    at_ = start;
    return std::nullopt;
  }

  Expression braced() {
    expect("{");
    Expression inner = expression();
    expect("}");
    return inner;
  }

  static const std::map<std::string, std::string>& function_names() {
    static const std::map<std::string, std::string> kNames{
        {"log", "log"},      {"ln", "ln"},         {"exp", "exp"},       {"sin", "sin"},
        {"cos", "cos"},      {"tan", "tan"},       {"csc", "csc"},       {"sec", "sec"},
        {"cot", "cot"},      {"arcsin", "asin"},   {"arccos", "acos"},   {"arctan", "atan"},
        {"arccsc", "acsc"},  {"arcsec", "asec"},   {"arccot", "acot"},   {"sinh", "sinh"},
        {"cosh", "cosh"},    {"tanh", "tanh"},     {"arsinh", "asinh"},  {"arcosh", "acosh"},
        {"artanh", "atanh"}, {"arcsinh", "asinh"}, {"arccosh", "acosh"}, {"arctanh", "atanh"},
        {"floor", "floor"},  {"ceil", "ceiling"}};
    return kNames;
  }
  static bool is_many(const std::string& name) {
    return name == "gcd" || name == "lcm" || name == "max" || name == "min";
  }

  Expression command(const std::string& name) {
    ++at_;
    if (name == "frac" || name == "dfrac" || name == "tfrac" || name == "cfrac") {
      Expression upper = braced();
      return divide(std::move(upper), braced());
    }
    if (name == "binom" || name == "tbinom" || name == "dbinom") {
      Expression upper = braced();
      return make(Kind::function, {upper, braced()}, "binomial");
    }
    if (name == "sqrt") {
      Expression root = make_integer(2);
      if (take("[")) {
        root = expression();
        expect("]");
      }
      return power(braced(), divide(make_integer(1), std::move(root)));
    }
    if (name == "infty") return make_constant("oo");
    if (name == "boxed" || name == "phantom") return braced();
    if (name == "lfloor" || name == "lceil") {
      Expression inner = expression();
      const char* close = name == "lfloor" ? "rfloor" : "rceil";
      if (!is_command(close)) throw Unparsable("an open rounding bracket");
      ++at_;
      return make(Kind::function, {inner}, name == "lfloor" ? "floor" : "ceiling");
    }
    if (name == "operatorname") {
      expect("{");
      const Token* word = peek();
      if (!word || word->kind != TokenKind::word) throw Unparsable("an unknown operator");
      const std::string text = word->text;
      ++at_;
      expect("}");
      return function(text);
    }
    return function(name);
  }

  Expression function(const std::string& name) {
    const auto known = function_names().find(name);
    if (known == function_names().end() && !is_many(name)) throw Unparsable("an unknown function");
    std::optional<Expression> base, times;
    for (int i = 0; i < 2; ++i) {
      if (!base && take("_")) base = script();
      if (!times && take("^")) times = script();
    }
    std::vector<Expression> args;
    if (take("(")) {
      args.push_back(expression());
      while (is_many(name) && take(",")) args.push_back(expression());
      expect(")");
    } else {
      args.push_back(product(/*functions=*/false));
    }
    std::string called = known == function_names().end() ? name : known->second;
    static const std::string kInvertible = " sin cos tan csc sec cot sinh cosh tanh ";
    if (times && is_number(*times) && (*times)->number.value == -1 &&
        kInvertible.find(" " + called + " ") != std::string::npos) {
      called = "a" + called;
      times.reset();
    }
    if (called == "log") args.push_back(base ? *base : make_integer(10));
    if (called == "ln" && base) {
      called = "log";
      args.push_back(*base);
    }
    Expression value = called == "exp" ? power(make_constant("e"), args[0])
                                       : make(Kind::function, std::move(args), called);
    return times ? power(std::move(value), std::move(*times)) : value;
  }

  bool names_symbol(const Token& token) const {
    return token.kind == TokenKind::letter || token.kind == TokenKind::greek ||
           token.kind == TokenKind::accent;
  }

  // f(x), f(x, y): the name of a symbol before parentheses with one atom or several parts.
  std::optional<Expression> unknown_function() {
    const Token* token = peek();
    if (!token || !names_symbol(*token)) return std::nullopt;
    const size_t start = at_++;
    try {
      skip_subscript();
      const std::string name = source(start, at_);
      std::optional<Expression> times;
      if (take("^")) times = script();
      const bool round = take("(");
      if (round || take("[")) {
        std::vector<Expression> args;
        const size_t first = at_;
        if (!try_atom(round, args)) {
          at_ = first;
          args = {expression()};
          expect(",");
          if (!is_operator(round ? ")" : "]")) {
            do {
              args.push_back(expression());
            } while (take(","));
          }
        }
        expect(round ? ")" : "]");
        Expression value = make(Kind::function, std::move(args), "call " + name);
        return times ? power(std::move(value), std::move(*times)) : value;
      }
    } catch (const Unparsable&) {
    }
    at_ = start;
    return std::nullopt;
  }

  bool try_atom(bool round, std::vector<Expression>& args) {
    try {
      const Token* token = peek();
      args = {token && names_symbol(*token) ? symbol_with_power() : atom()};
      return is_operator(round ? ")" : "]");
    } catch (const Unparsable&) {
      return false;
    }
  }

  Expression symbol_with_power() {
    Expression value = symbol();
    if (!take("^")) return value;
    return power(std::move(value), script());
  }

  Expression symbol() {
    const Token* token = peek();
    if (!token || !names_symbol(*token)) throw Unparsable("no symbol");
    std::string name = token->text;
    const bool letter = token->kind == TokenKind::letter;
    ++at_;
    if (take("_")) {
      const std::string below = subscript();
      name += below.size() > 1 ? "_{" + below + "}" : "_" + below;
    }
    if (letter && name[0] == 'I' && name.size() == 1) return make_constant("i");
    name = python::lower(name);
    if (name == "pi") return make_constant("pi");
    return make_symbol(std::move(name), real_);
  }

  Expression atom() {
    const Deeper deeper(depth_);
    const Token* token = peek();
    if (!token) throw Unparsable("the formula breaks off");
    if (names_symbol(*token)) return symbol();
    const std::string text = token->text;
    switch (token->kind) {
      case TokenKind::number:
        ++at_;
        skip_subscript();
        return make_number(*parse_number(text));
      case TokenKind::percentage:
        ++at_;
        return make(Kind::percent, {make_number(*parse_number(text))});
      case TokenKind::scientific:
        ++at_;
        return scientific(text);
      case TokenKind::capital_e:
        ++at_;
        return make_symbol("e", real_);
      case TokenKind::differential:
        ++at_;
        return make_symbol("d" + text.substr(text.starts_with('\\') ? 1 : 0), real_);
      case TokenKind::command:
        if (text == "infty") {
          ++at_;
          return make_constant("oo");
        }
        [[fallthrough]];
      default:
        throw Unparsable("no atom");
    }
  }

  static Expression scientific(const std::string& text) {
    const size_t e = text.find('E');
    const std::string exponent = text.substr(e + 1);
    if (exponent.size() > 6) throw Unparsable("an exponent out of range");
    return multiply(make_number(*parse_number(text.substr(0, e))),
                    power(make_integer(10), make_integer(std::stoll(exponent))));
  }

  Expression matrix() {
    Node node{Kind::matrix, {}, {}, {}, true, false, false, 0};
    const std::string type = tokens_[at_++].text;
    while (true) {
      int64_t columns = 0;
      do {
        node.args.push_back(expression());
        ++columns;
      } while (take("&"));
      if (node.columns != 0 && node.columns != columns) throw Unparsable("a ragged matrix");
      node.columns = columns;
      const bool more = take("\\\\");
      if (peek() && peek()->kind == TokenKind::matrix_end) break;
      if (!more) throw Unparsable("an open matrix");
    }
    if ((type == "array") != (tokens_[at_].text == "array")) throw Unparsable("an open array");
    ++at_;
    return std::make_shared<const Node>(std::move(node));
  }

  std::string_view formula_;
  std::vector<Token> tokens_;
  bool real_;
  size_t at_ = 0;
  int depth_ = 0, bars_ = 0;
  int64_t steps_ = 0;
};

}  // namespace

Expression parse_latex(std::string_view formula) {
  if (formula.size() > kFormulaBytes) throw Unparsable("too long");
  // math-verify's signs of complex numbers, matrices and vectors.
  static const Pattern complex(
      R"(\\mathbb\{C\}|\\i\b|\bi\b|\\text\{i\}|\\mathrm\{i\}|\\imath\b|\\det|\\operatorname\{tr\}|)"
      R"(\\operatorname\{rank\}|\\text\{rank\}|\\arg\{|\\Re\{|\\Im\{|\\operatorname\{Re\}|)"
      R"(\\operatorname\{Im\}|\\text\{Re\}|\\text\{Im\})");
  const bool real = complex.find_all(std::string(formula)).empty();
  return Parser(formula, real).run();
}

}  // namespace narrow::evaluate::math
