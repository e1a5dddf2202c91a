// Mathematical expressions as answers hold them: a tree, and two ways to give it a value.
//
// Two expressions are compared by value, not by rewriting: where only field operations occur, in a
// prime field with a random element for each symbol (equal residues at two such points mean equal
// rational functions but for a chance below 2^-100: Schwartz 1980, Zippel 1979), and otherwise in
// complex long double at random points. Both are bounded by the size of the tree. Trees are
// immutable and may be shared between threads; a parser bounds their size and depth.
#pragma once

#include <complex>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace narrow::evaluate::math {

// A number as it was written: exact in the field, and to 18 digits.
struct Number {
  uint64_t residue = 0;
  long double value = 0;
  // The fraction in lowest terms while both parts fit; denominator 0 when they do not.
  int64_t numerator = 0, denominator = 1;
  bool decimal = false;  // written with a decimal point

  bool is_integer() const { return denominator == 1 && !decimal; }
  bool is_rational() const { return denominator != 0 && !decimal; }
};

enum class Kind {
  number,
  percent,   // args[0] in hundredths
  symbol,    // name; `real` when it stands for a real number
  constant,  // name: pi, e, i, oo
  add,
  mul,
  power,     // args: base, exponent
  function,  // name, args
  relation,  // name: = < <= > >= !=, args: sides
  chain,     // a < b < c: args are relations
  set,       // finite, in written order
  tuple,
  interval,       // args: ends; left_open, right_open
  set_operation,  // name: union, intersection, minus
  named_set,      // name: N, Z, Q, R, C, empty
  matrix          // args row by row; columns
};

struct Node;
using Expression = std::shared_ptr<const Node>;

struct Node {
  Kind kind;
  std::string name;
  std::vector<Expression> args;
  Number number;
  bool real = true;
  bool left_open = false, right_open = false;
  int64_t columns = 0;
};

Expression make(Kind kind, std::vector<Expression> args, std::string name = {});
Expression make_number(Number number);
Expression make_integer(int64_t value);
Expression make_symbol(std::string name, bool real);
Expression make_constant(std::string name);
Expression add(Expression left, Expression right);  // sums and products stay flat
Expression multiply(Expression left, Expression right);
Expression divide(Expression left, Expression right);
Expression power(Expression base, Expression exponent);
Expression negate(Expression operand);
// A finite set; elements that are written alike count once.
Expression make_set(std::vector<Expression> elements);

// Decimal digits with at most one point, as many as one likes. Nothing when `text` is not that.
std::optional<Number> parse_number(std::string_view text);
// Nothing when the exact fraction does not fit.
std::optional<Number> exact_sum(const Number& left, const Number& right);
std::optional<Number> exact_quotient(const Number& left, const Number& right);
Number negated(Number number);

bool is_number(const Expression& expression);
// Only symbols joined by arithmetic (math-verify's test for the left side of an assignment).
bool only_symbols(const Expression& expression);
// Sets, tuples, relations: what has no value of its own.
bool is_scalar(const Expression& expression);
// The tree as text, equal for equal trees; for telling elements of a set apart.
std::string structure(const Expression& expression);
void collect_symbols(const Expression& expression, std::vector<std::string>& names);

// Values at the `point`-th random assignment. Nothing where an operation is undefined or, in the
// field, is not one of the field's.
std::optional<uint64_t> field_value(const Expression& expression, int point);
std::optional<std::complex<long double>> numeric_value(const Expression& expression, int point);

// Whether two scalar expressions have the same value wherever both have one.
bool same_value(const Expression& left, const Expression& right);

// Whether sympy tells two sums or products of numbers apart because it computes decimals in floats
// of 53 bits: 14.0 · 1/3 is not 14/3 there.
bool floats_differ(const Expression& left, const Expression& right);

}  // namespace narrow::evaluate::math
