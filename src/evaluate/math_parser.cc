#include "evaluate/math_parser.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "evaluate/filter.h"
#include "evaluate/math_reader.h"
#include "evaluate/python_text.h"

namespace narrow::evaluate::math {
namespace {

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
  if (from && to && std::isinf(*from) && std::isinf(*to)) return make(Kind::named_set, {}, "R");
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

class Parser : public Reader {
 public:
  using Reader::Reader;

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

  Expression grouped_number() const {
    std::string text;
    for (const char c : formula_)
      if ((c >= '0' && c <= '9') || c == '.') text += c;
    if (python::strip(formula_).starts_with('0'))  // "0,111" is a decimal fraction
      text = "0." + text.substr(1);
    Number number = *parse_number(text);
    return make_number(python::strip(formula_).starts_with('-') ? negated(number) : number);
  }

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
    for (const char* text : {"empty", "N", "Z", "Q", "R", "C"})
      if (token->text == text) return true;
    if (after_brackets() == 0) return false;
    // A set is the whole element: what goes on after the bracket is arithmetic.
    const size_t start = std::exchange(at_, after_brackets());
    const bool whole = at_end_of_element();
    at_ = start;
    return whole;
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
