#include "evaluate/math_expression.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "evaluate/math_field.h"

namespace narrow::evaluate::math {
namespace {

constexpr __int128 kSmall = std::numeric_limits<int64_t>::max();

std::optional<Number> fraction(__int128 numerator, __int128 denominator) {
  if (denominator == 0) return std::nullopt;
  if (denominator < 0) {
    numerator = -numerator;
    denominator = -denominator;
  }
  __int128 a = numerator < 0 ? -numerator : numerator, b = denominator;
  while (b != 0) a = std::exchange(b, a % b);
  if (a > 1) {
    numerator /= a;
    denominator /= a;
  }
  if (numerator > kSmall || numerator < -kSmall || denominator > kSmall) return std::nullopt;
  Number result;
  result.numerator = static_cast<int64_t>(numerator);
  result.denominator = static_cast<int64_t>(denominator);
  result.value = static_cast<long double>(numerator) / static_cast<long double>(denominator);
  result.residue =
      field::divide(field::from_integer(result.numerator), field::from_integer(result.denominator));
  return result;
}

Expression flat(Kind kind, Expression left, Expression right) {
  std::vector<Expression> args;
  for (Expression* side : {&left, &right}) {
    if ((*side)->kind == kind) {
      args.insert(args.end(), (*side)->args.begin(), (*side)->args.end());
    } else {
      args.push_back(std::move(*side));
    }
  }
  return make(kind, std::move(args));
}

}  // namespace

Expression make(Kind kind, std::vector<Expression> args, std::string name) {
  Node node{kind, std::move(name), std::move(args), {}, true, false, false, 0};
  return std::make_shared<const Node>(std::move(node));
}

Expression make_number(Number number) {
  Node node{Kind::number, {}, {}, number, true, false, false, 0};
  return std::make_shared<const Node>(std::move(node));
}

Expression make_integer(int64_t value) { return make_number(*fraction(value, 1)); }

Expression make_symbol(std::string name, bool real) {
  Node node{Kind::symbol, std::move(name), {}, {}, real, false, false, 0};
  return std::make_shared<const Node>(std::move(node));
}

Expression make_constant(std::string name) { return make(Kind::constant, {}, std::move(name)); }

Expression add(Expression left, Expression right) {
  return flat(Kind::add, std::move(left), std::move(right));
}
Expression multiply(Expression left, Expression right) {
  return flat(Kind::mul, std::move(left), std::move(right));
}
Expression power(Expression base, Expression exponent) {
  return make(Kind::power, {std::move(base), std::move(exponent)});
}

Expression divide(Expression left, Expression right) {
  if (is_number(left) && is_number(right) && left->number.is_integer() &&
      right->number.is_integer())
    if (const auto quotient = exact_quotient(left->number, right->number))
      return make_number(*quotient);
  return multiply(std::move(left), power(std::move(right), make_integer(-1)));
}

Expression negate(Expression operand) {
  if (is_number(operand)) return make_number(negated(operand->number));
  return multiply(make_integer(-1), std::move(operand));
}

Expression make_set(std::vector<Expression> elements) {
  std::vector<Expression> different;
  std::vector<std::string> seen;
  for (Expression& element : elements) {
    std::string text = structure(element);
    if (std::find(seen.begin(), seen.end(), text) != seen.end()) continue;
    seen.push_back(std::move(text));
    different.push_back(std::move(element));
  }
  return make(Kind::set, std::move(different));
}

std::optional<Number> parse_number(std::string_view text) {
  if (text.empty() || text == ".") return std::nullopt;
  Number number;
  __int128 digits = 0, scale = 1;
  uint64_t residue = 0, scale_residue = 1;
  long double value = 0, scale_value = 1;
  bool fits = true;
  for (const char c : text) {
    if (c == '.') {
      if (number.decimal) return std::nullopt;
      number.decimal = true;
      continue;
    }
    if (c < '0' || c > '9') return std::nullopt;
    residue = field::add(field::multiply(residue, 10), static_cast<uint64_t>(c - '0'));
    value = value * 10 + (c - '0');
    if (number.decimal) {
      scale_residue = field::multiply(scale_residue, 10);
      scale_value *= 10;
    }
    fits = fits && digits < kSmall / 16 && scale < kSmall / 16;
    if (fits) {
      digits = digits * 10 + (c - '0');
      if (number.decimal) scale *= 10;
    }
  }
  if (const auto exact = fits ? fraction(digits, scale) : std::nullopt) {
    number.numerator = exact->numerator;
    number.denominator = exact->denominator;
  } else {
    number.denominator = 0;
  }
  number.residue = field::divide(residue, scale_residue);
  number.value = value / scale_value;
  return number;
}

std::optional<Number> exact_sum(const Number& left, const Number& right) {
  if (!left.is_rational() || !right.is_rational()) return std::nullopt;
  // Each factor is below 2^31, so that no product overflows.
  for (const int64_t part : {left.numerator, left.denominator, right.numerator, right.denominator})
    if (part > std::numeric_limits<int32_t>::max() || part < std::numeric_limits<int32_t>::min())
      return std::nullopt;
  return fraction(static_cast<__int128>(left.numerator) * right.denominator +
                      static_cast<__int128>(right.numerator) * left.denominator,
                  static_cast<__int128>(left.denominator) * right.denominator);
}

std::optional<Number> exact_quotient(const Number& left, const Number& right) {
  if (!left.is_rational() || !right.is_rational()) return std::nullopt;
  return fraction(static_cast<__int128>(left.numerator) * right.denominator,
                  static_cast<__int128>(left.denominator) * right.numerator);
}

Number negated(Number number) {
  number.residue = field::subtract(0, number.residue);
  number.value = -number.value;
  number.numerator = -number.numerator;
  return number;
}

bool is_number(const Expression& expression) { return expression->kind == Kind::number; }

bool only_symbols(const Expression& expression) {
  if (expression->kind == Kind::symbol) return true;
  if (expression->kind == Kind::power && is_number(expression->args[1]))
    return expression->args[1]->number.value == -1 && only_symbols(expression->args[0]);
  return !expression->args.empty() &&
         std::all_of(expression->args.begin(), expression->args.end(), only_symbols);
}

bool is_scalar(const Expression& expression) {
  switch (expression->kind) {
    case Kind::relation:
    case Kind::chain:
    case Kind::set:
    case Kind::tuple:
    case Kind::interval:
    case Kind::set_operation:
    case Kind::named_set:
    case Kind::matrix:
      return false;
    default:
      return true;
  }
}

std::string structure(const Expression& expression) {
  std::string text = std::to_string(static_cast<int>(expression->kind)) + expression->name;
  if (expression->kind == Kind::number) {
    text += expression->number.decimal ? "d" : "n";
    text += std::to_string(expression->number.residue);
  }
  if (!expression->real) text += "c";
  if (expression->left_open) text += "l";
  if (expression->right_open) text += "r";
  if (expression->columns) text += std::to_string(expression->columns);
  text += "(";
  for (const Expression& arg : expression->args) text += structure(arg) + ",";
  return text + ")";
}

void collect_symbols(const Expression& expression, std::vector<std::string>& names) {
  if (expression->kind == Kind::symbol &&
      std::find(names.begin(), names.end(), expression->name) == names.end())
    names.push_back(expression->name);
  for (const Expression& arg : expression->args) collect_symbols(arg, names);
}

}  // namespace narrow::evaluate::math
