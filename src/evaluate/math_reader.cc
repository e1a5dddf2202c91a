#include "evaluate/math_reader.h"

#include <utility>

#include "evaluate/python_text.h"

namespace narrow::evaluate::math {

Reader::Reader(std::string_view formula, bool real)
    : formula_(formula), tokens_(tokenize(formula)), closing_(tokens_.size(), 0), real_(real) {
  std::vector<size_t> open;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const Token& token = tokens_[i];
    has_choose_ = has_choose_ || (token.kind == TokenKind::command && token.text == "choose");
    if (token.kind != TokenKind::operator_) continue;
    if (token.text == "(" || token.text == "[" || token.text == "{" || token.text == "\\{") {
      open.push_back(i);
    } else if (token.text == ")" || token.text == "]" || token.text == "}" || token.text == "\\}") {
      if (open.empty()) continue;
      closing_[open.back()] = i + 1;  // of whatever kind: "[0, 1)" is an interval
      open.pop_back();
    }
  }
}

const Token* Reader::peek(size_t ahead) {
  if (++steps_ > kStepLimit) throw Unparsable("too many steps");
  return at_ + ahead < tokens_.size() ? &tokens_[at_ + ahead] : nullptr;
}

bool Reader::is_operator(std::string_view text, size_t ahead) {
  const Token* token = peek(ahead);
  return token && token->kind == TokenKind::operator_ && token->text == text;
}

bool Reader::is_command(std::string_view text) {
  const Token* token = peek();
  return token && token->kind == TokenKind::command && token->text == text;
}

bool Reader::take(std::string_view text) {
  if (!is_operator(text)) return false;
  ++at_;
  return true;
}

void Reader::expect(std::string_view text) {
  if (!take(text)) throw Unparsable("expected " + std::string(text));
}

std::string Reader::source(size_t first, size_t last) const {
  std::string text;
  const size_t end = last < tokens_.size() ? tokens_[last].begin : formula_.size();
  for (const char c : formula_.substr(tokens_[first].begin, end - tokens_[first].begin))
    if (c != ' ' && c != '\t' && c != '\n' && c != '\r') text += c;
  return text;
}

Expression Reader::expression() {
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

Expression Reader::product(bool functions) {
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

Expression Reader::signed_factors(bool functions) {
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

Expression Reader::factors(bool functions) {
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

bool Reader::starts_factor(bool functions) {
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

Expression Reader::postfix() {
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

Expression Reader::transposed(const Node& matrix) {
  Node result{Kind::matrix, {}, {}, {}, true, false, false, 0};
  const auto columns = static_cast<size_t>(matrix.columns), rows = matrix.args.size() / columns;
  for (size_t c = 0; c < columns; ++c)
    for (size_t r = 0; r < rows; ++r) result.args.push_back(matrix.args[r * columns + c]);
  result.columns = static_cast<int64_t>(rows);
  return std::make_shared<const Node>(std::move(result));
}

Expression Reader::powers() {
  Expression base = component();
  while (take("^")) {
    base = power(std::move(base), script());
    skip_subscript();
  }
  return base;
}

Expression Reader::script() {
  if (!take("{")) return atom();
  Expression inner = expression();
  expect("}");
  return inner;
}

void Reader::skip_subscript() {
  if (take("_")) subscript();
}

std::string Reader::subscript() {
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

Expression Reader::enclosed(const char* close) {
  ++at_;
  Expression inner = expression();
  expect(close);
  return inner;
}

Expression Reader::component() {
  const Deeper deeper(depth_);
  const Token* token = peek();
  if (!token) throw Unparsable("the formula breaks off");
  if (token->kind == TokenKind::operator_) {
    for (const auto& [open, close] :
         {std::pair{"(", ")"}, {"{", "}"}, {"[", "]"}, {"\\{", "\\}"}}) {
      if (token->text != open) continue;
      if (after_brackets() == 0) throw Unparsable("an open bracket");
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

std::optional<Expression> Reader::choose() {
  if (!has_choose_ || !is_operator("{")) return std::nullopt;
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

Expression Reader::braced() {
  expect("{");
  Expression inner = expression();
  expect("}");
  return inner;
}

const std::map<std::string, std::string>& Reader::function_names() {
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

bool Reader::is_many(const std::string& name) {
  return name == "gcd" || name == "lcm" || name == "max" || name == "min";
}

Expression Reader::command(const std::string& name) {
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

Expression Reader::function(const std::string& name) {
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

bool Reader::names_symbol(const Token& token) const {
  return token.kind == TokenKind::letter || token.kind == TokenKind::greek ||
         token.kind == TokenKind::accent;
}

std::optional<Expression> Reader::unknown_function() {
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

bool Reader::try_atom(bool round, std::vector<Expression>& args) {
  try {
    const Token* token = peek();
    args = {token && names_symbol(*token) ? symbol_with_power() : atom()};
    return is_operator(round ? ")" : "]");
  } catch (const Unparsable&) {
    return false;
  }
}

Expression Reader::symbol_with_power() {
  Expression value = symbol();
  if (!take("^")) return value;
  return power(std::move(value), script());
}

Expression Reader::symbol() {
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

Expression Reader::atom() {
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
      // The released grammar and its converter disagree on percents: they are never read.
      throw Unparsable("a percentage");
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

Expression Reader::scientific(const std::string& text) {
  const size_t e = text.find('E');
  const std::string exponent = text.substr(e + 1);
  if (exponent.size() > 6) throw Unparsable("an exponent out of range");
  return multiply(make_number(*parse_number(text.substr(0, e))),
                  power(make_integer(10), make_integer(std::stoll(exponent))));
}

Expression Reader::matrix() {
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

}  // namespace narrow::evaluate::math
